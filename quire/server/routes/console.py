"""GET / and its parts: a page to chat with the model and to watch the engine; GET /console/state: what it shows.

The page and its parts hold nothing secret and are open; whatever they ask for needs a key where keys are set.
"""

from __future__ import annotations

from importlib.resources import files

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from quire.config.decided import ServerConfig
from quire.engine.metrics import Ended
from quire.server.access import key_of
from quire.server.front import Service
from quire.server.shelf import Endpoint, Example, Serve
from quire.version import __version__

_POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_FOLDER = files("quire.server") / "console"


class State(msgspec.Struct, frozen=True):
    """The engine at this moment; counters only grow. ``requests``: the last ones of this key that ended, the newest
    first.
    """

    model: str
    version: str
    max_model_len: int
    is_alive: bool
    num_restarts: int
    num_running: int
    num_waiting: int
    num_blocks: int
    num_blocks_held: int
    num_preemptions: int
    prefix_queries: int
    prefix_hits: int
    prompt_tokens: int
    generation_tokens: int
    num_first_tokens: int
    first_token_s: float
    """Sum over these first tokens of the seconds since their requests' arrival."""
    resident_bytes: int
    requests: list[Ended]


async def serve_state(request: Request, service: Service) -> ASGIApp:
    """What the page shows, as JSON."""
    key = key_of(request)
    front, metrics = service.front, service.front.metrics
    now, totals = metrics.stats, metrics.totals
    count, seconds = metrics.first_tokens
    state = State(
        model=service.models_for(key)[0],
        version=__version__,
        max_model_len=service.config.max_model_len,
        is_alive=front.client.is_alive,
        num_restarts=front.client.num_restarts,
        num_running=now.num_running,
        num_waiting=now.num_waiting,
        num_blocks=now.num_blocks,
        num_blocks_held=now.num_blocks_held,
        num_preemptions=int(totals["num_preemptions"]),
        prefix_queries=int(totals["prefix_cache_queries"]),
        prefix_hits=int(totals["prefix_cache_hits"]),
        prompt_tokens=int(totals["computed"] + totals["prompt_tokens_cached"]),
        generation_tokens=int(totals["generation_tokens"]),
        num_first_tokens=count,
        first_token_s=seconds,
        resident_bytes=now.resident_bytes,
        requests=metrics.recent(key.name),
    )
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(state), headers=headers, media_type="application/json")


def _part(name: str, media_type: str) -> Serve:
    """An endpoint that sends a file of the folder ``console``."""
    content = (_FOLDER / name).read_bytes()
    headers = {"content-security-policy": _POLICY, "cache-control": "no-cache"}

    async def serve(request: Request, service: Service) -> ASGIApp:
        return Response(content, headers=headers, media_type=media_type)

    return serve


def _is_on(config: ServerConfig) -> bool:
    return config.has_console


endpoints = (
    Endpoint("/", ("GET",), _part("index.html", "text/html"), "The console.", is_open=True, is_on=_is_on),
    Endpoint(
        "/console/console.js",
        ("GET",),
        _part("console.js", "text/javascript"),
        "Its program.",
        is_open=True,
        is_on=_is_on,
    ),
    Endpoint(
        "/console/console.css", ("GET",), _part("console.css", "text/css"), "Its looks.", is_open=True, is_on=_is_on
    ),
    Endpoint("/console/state", ("GET",), serve_state, "What the console shows.", gives=State, is_on=_is_on),
)

examples = (
    Example("GET", "/", 200),
    Example("GET", "/console/console.js", 200),
    Example("GET", "/console/console.css", 200),
    Example("GET", "/console/state", 200),
    Example("POST", "/console/state", 405),
)
