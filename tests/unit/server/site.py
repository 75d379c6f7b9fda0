"""A whole server without sockets: the real routes and the real text, before an engine that always says the same.

Not here: tests. Door: Site, FakeEngine, call.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import httpx
from msgspec.structs import replace
from starlette.applications import Starlette
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as RawTokenizer

from quire.config.decided import ServerConfig, TextConfig
from quire.core.events import Delta, EngineStats, FinishReason, Scheduled, StepEvents
from quire.core.ids import RequestId
from quire.core.request import Request
from quire.core.step import TokenLogprobs
from quire.engine.admission import Admission, QueueLimits
from quire.engine.client import Listener
from quire.engine.metrics import Metrics
from quire.errors import EngineDead
from quire.server.app import create_app
from quire.server.front import Front
from quire.text.template import ChatTemplate
from quire.text.tokenizer import Tokenizer
from quire.text.tokenizer_files import TokenizerConfig
from quire.text.validate import Validator

MODEL = "house/tiny-1"
CONTEXT = 256
SAYS = " Once upon a time there was a small book, and the singers kept it on a wooden stand."
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if tools %}[{{ tools | length }} tools]{% endif %}{% if mood %}[{{ mood }}]{% endif %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def tokenizer() -> Tokenizer:
    """A small byte-level tokenizer that knows the ChatML tokens."""
    raw = RawTokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        [SAYS, "Hello, world"], trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        raw.add_tokens([AddedToken(text, normalized=False, special=True)])
    special = {"eos_token": "<|im_end|>", "bos_token": "<|endoftext|>"}
    return Tokenizer(raw, TokenizerConfig(special_tokens=special))


class FakeEngine:
    """Says ``SAYS`` over and over, each sample beginning at its own place, one token of every sample a step.

    ``fails_at``, ``dies_at``: the token of sample 0 before which the request or the engine fails.
    ``gate``: steps wait for it.
    """

    def __init__(self) -> None:
        self.on_events: list[Callable[[StepEvents], None]] = []
        self.stats = EngineStats(num_blocks=100)
        self.is_alive = True
        self.num_restarts = 0
        self.requests: list[Request] = []
        self.cancelled: list[tuple[RequestId, int | None]] = []
        self.closed: list[RequestId] = []
        self.gate: asyncio.Event | None = None
        self.fails_at: int | None = None
        self.dies_at: int | None = None
        self.says = tuple(tokenizer().encode(SAYS, add_special_tokens=False))
        self.num_cached = 0
        self._tasks: dict[RequestId, asyncio.Task[None]] = {}

    def token(self, index: int, position: int) -> int:
        """A pure function of the sample and the position."""
        return self.says[(index + position) % len(self.says)]

    def submit(self, request: Request, listener: Listener) -> None:
        self.requests.append(request)
        if not self.is_alive:
            self.closed.append(request.id)
            raise EngineDead("The engine's process has ended.")
        self._tasks[request.id] = asyncio.ensure_future(self._run(request, listener))

    def withdraw(self, request_id: RequestId) -> None:
        task = self._tasks.get(request_id)
        if task is not None:
            self._end(request_id)
            self.cancel(request_id)
            task.cancel()

    def _end(self, request_id: RequestId) -> None:
        del self._tasks[request_id]
        self.closed.append(request_id)

    async def _run(self, request: Request, listener: Listener) -> None:
        open_samples = set(range(request.n))
        for index in range(request.n):
            listener(Scheduled(request.id, index, self.num_cached, True))
        position = 0
        while open_samples:
            if self.gate is not None:
                await self.gate.wait()
            await asyncio.sleep(0)
            try:
                deltas = [self._delta(request, index, position) for index in sorted(open_samples)]
            except EngineDead as error:
                self._end(request.id)
                listener(error)
                return
            self._tell(deltas)
            for delta in deltas:
                if (request.id, delta.index) in self.cancelled:
                    delta = replace(delta, token_ids=(), logprobs=(), finish="abort", stop_reason=None)
                if delta.finish is not None:
                    open_samples.discard(delta.index)
                if not open_samples:
                    self._end(request.id)
                listener(delta)
            position += 1

    def _tell(self, deltas: list[Delta]) -> None:
        self.stats = replace(self.stats, step=self.stats.step + 1, step_tokens=len(deltas))
        for observe in self.on_events:
            observe(StepEvents(deltas=tuple(deltas), stats=self.stats))

    def _delta(self, request: Request, index: int, position: int) -> Delta:
        if index == 0 and position == self.dies_at:
            self.is_alive = False
            raise EngineDead("The engine's process has ended; this request cannot be continued.")
        if index == 0 and position == self.fails_at:
            return Delta(
                request.id, index, finish="error", error="logits at 0x7f00deadbeef of /opt/models/x.bin are NaN"
            )
        token = self.token(index, position)
        finish: FinishReason | None = None
        reason = None
        if token in request.stopping.eos_token_ids:
            finish = "stop"
        elif token in request.stopping.stop_token_ids:
            finish, reason = "stop", token
        elif position + 1 >= request.stopping.max_tokens:
            finish = "length"
        sampling = request.sampling
        logprobs = (self._logprobs(token, sampling.num_logprobs),) if sampling.num_logprobs >= 0 else ()
        prompt_logprobs: tuple[TokenLogprobs, ...] = ()
        if index == 0 and position == 0 and sampling.num_prompt_logprobs >= 0:
            later = request.prompt_ids[1:]
            prompt_logprobs = tuple(self._logprobs(one, sampling.num_prompt_logprobs) for one in later)
        return Delta(request.id, index, (token,), logprobs, prompt_logprobs, finish, reason)

    @staticmethod
    def _logprobs(token: int, num: int) -> TokenLogprobs:
        """The token is the second most likely one; the others are its neighbours."""
        others = [token + 1, *[token - k for k in range(1, num)]] if num else []
        ranked = [(others[0], -0.5, 1)] if others else []
        ranked += [(token, -1.0, 2)]
        ranked += [(other, -2.0 - rank, rank) for rank, other in enumerate(others[1:], start=3)]
        kept = ranked[:num]
        rows = [(token, -1.0, 2), *kept]
        return TokenLogprobs(tuple(r[0] for r in rows), tuple(r[1] for r in rows), tuple(r[2] for r in rows))

    def cancel(self, request_id: RequestId, index: int | None = None) -> None:
        self.cancelled.append((request_id, index))

    async def command(self, name: str, *arguments: str) -> str:
        return ""


class Site:
    """A server and a client of it. ``config`` and ``text`` replace fields of the two configurations."""

    def __init__(
        self,
        *,
        text: dict[str, object] | None = None,
        has_tokenizer: bool = True,
        limits: QueueLimits | None = None,
        **config: Any,
    ) -> None:
        words = tokenizer()
        made = TextConfig(
            tokenizer_path="", vocab_size=words.num_tokens + 4, max_model_len=CONTEXT, max_num_tokens=CONTEXT
        )
        self.text = replace(made, **(text or {}))
        self.config = replace(ServerConfig((MODEL, "alias"), "models/tiny", CONTEXT, logs_access=False), **config)
        self.engine = FakeEngine()
        self.metrics = Metrics(MODEL, max_model_len=CONTEXT)
        template = ChatTemplate(CHATML, words.config.special_tokens)
        known = words if has_tokenizer else None
        self.front = Front(
            self.engine,
            known,
            template if has_tokenizer else None,
            Validator(self.text, known),
            self.text,
            self.metrics,
            Admission(limits or QueueLimits(None, None, None, 64, 512), self.metrics.rejected),
        )
        self.app: Starlette = create_app(self.config, self.front)

    def client(self, **options: object) -> httpx.AsyncClient:
        """A client without sockets."""
        transport = httpx.ASGITransport(self.app)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost:8000", **options)  # type: ignore[arg-type]

    async def ask(self, method: str, path: str, body: object = None, **options: object) -> httpx.Response:
        """One exchange; ``body`` is sent as JSON, or as it is when it is bytes."""
        if isinstance(body, bytes):
            options = {"content": body, "headers": {"content-type": "application/json"}, **options}
        elif body is not None:
            options = {"json": body, **options}
        async with self.client() as client:
            return await client.request(method, path, **options)  # type: ignore[arg-type]

    async def chat(self, **fields: object) -> httpx.Response:
        """POST /v1/chat/completions with a short message."""
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, **fields}
        return await self.ask("POST", "/v1/chat/completions", body)

    async def complete(self, **fields: object) -> httpx.Response:
        """POST /v1/completions with a short prompt."""
        return await self.ask("POST", "/v1/completions", {"prompt": "Hello", "max_tokens": 4, **fields})


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """The events of a stream, which must end in ``[DONE]``."""
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.split("\n\n") if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert lines.count("data: [DONE]") == 1
    return [json.loads(line[6:]) for line in lines[:-1]]


def fault(response: httpx.Response) -> dict[str, object]:
    """The error of an answer, in the one shape that errors have."""
    assert response.headers["content-type"] == "application/json"
    assert len(response.content) <= 4096
    body: dict[str, dict[str, object]] = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


class Wire:
    """One exchange by hand, for what a client library cannot do: odd headers, pieces of a body, leaving early."""

    def __init__(
        self,
        method: str = "POST",
        path: str = "/v1/chat/completions",
        *,
        headers: list[tuple[bytes, bytes]] | None = None,
        body: list[bytes] | None = None,
        raw_path: bytes | None = None,
        is_whole: bool = True,
    ) -> None:
        if headers is None:
            headers = [(b"host", b"localhost:8000"), (b"content-type", b"application/json")]
        self.scope: dict[str, object] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode() if raw_path is None else raw_path, "query_string": b"",
            "root_path": "", "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
        }  # fmt: skip
        self.pending = list(body or [b""])
        self.is_whole = is_whole
        self.num_read = 0
        self.sent: list[dict[str, object]] = []
        self.gone = asyncio.Event()
        self.has_data = asyncio.Event()

    async def receive(self) -> dict[str, object]:
        if self.num_read < len(self.pending):
            self.num_read += 1
            more = self.num_read < len(self.pending) or not self.is_whole
            return {"type": "http.request", "body": self.pending[self.num_read - 1], "more_body": more}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, object]) -> None:
        self.sent.append(message)
        if message.get("body"):
            self.has_data.set()

    async def run(self, app: Starlette) -> Wire:
        await app(self.scope, self.receive, self.send)  # type: ignore[arg-type]
        return self

    @property
    def status(self) -> int:
        status = self.sent[0]["status"]
        assert isinstance(status, int)
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        headers = self.sent[0]["headers"]
        assert isinstance(headers, list)
        return dict(headers)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)  # type: ignore[misc]
