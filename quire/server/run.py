"""Running the app on uvicorn until somebody says stop.

Not here: taking the address (listen.py), what is served (app.py), the engine's process (engine/client.py).
Door: run.
"""

from __future__ import annotations

import asyncio
import socket
import sys

import uvicorn
from starlette.types import ASGIApp

from quire.config.decided import ServerConfig
from quire.server.protocol import BoundedProtocol

_GRACE_S = 5


async def run(app: ASGIApp, config: ServerConfig, listener: socket.socket) -> None:
    """Serve on the listener until a signal ends it. Says where it listens once it does."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            loop="none",
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level=config.log_level,
            access_log=False,
            root_path=config.root_path,
            timeout_keep_alive=config.keep_alive_s,
            timeout_graceful_shutdown=_GRACE_S,
            server_header=False,
            ssl_keyfile=config.ssl_keyfile,
            ssl_certfile=config.ssl_certfile,
            ssl_ca_certs=config.ssl_ca_certs,
            ssl_cert_reqs=config.ssl_cert_reqs,
        )
    )

    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    if server.started:
        print(_greeting(config), file=sys.stderr, flush=True)
    await serving


def _greeting(config: ServerConfig) -> str:
    model = config.model_names[0]
    if config.uds is not None:
        return f"Quire serves {model} on the socket {config.uds}."
    scheme = "https" if config.ssl_certfile else "http"
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = f"{scheme}://{host}:{config.port}"
    key = " -H 'Authorization: Bearer YOUR_KEY'" if config.api_keys else ""
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Who are you?"}}]}}'
    return (
        f"Quire serves {model} on {url} (OpenAI API: {url}/v1, documentation: {url}/docs). Try:\n"
        f"  quire chat --url {url}/v1\n"
        f"  curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'"
    )
