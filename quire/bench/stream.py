"""One streamed request over HTTP/1.1, with the time at which each event came.

A small client of its own: at ten thousand events a second a general one would cost more than the server it measures.

Not here: which requests (arrivals.py), what comes of the times (serve.py).
Door: Target, Answer, ask.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from typing import Literal, cast
from urllib.parse import urlsplit

import httptools
import msgspec
from msgspec import Struct, field

from quire.errors import ConfigError

Backend = Literal["openai", "openai-chat"]
ENDPOINTS: dict[Backend, str] = {"openai": "/v1/completions", "openai-chat": "/v1/chat/completions"}


class Target(Struct, frozen=True):
    """Where requests go. ``path`` is the endpoint's; ``headers`` are added to each request."""

    host: str
    port: int
    path: str
    is_tls: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, base_url: str, endpoint: str, headers: Mapping[str, str]) -> Target:
        """A target from a base URL such as ``http://127.0.0.1:8000``.

        Raises: ConfigError when it is no http or https URL with a host.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"{base_url!r} is no http:// or https:// address with a host, such as http://127.0.0.1:8000."
            )
        is_tls = parts.scheme == "https"
        return cls(
            host=parts.hostname,
            port=parts.port or (443 if is_tls else 80),
            path=parts.path.rstrip("/") + endpoint,
            is_tls=is_tls,
            headers=tuple(headers.items()),
        )


class Answer(Struct):
    """What came back. Times are of ``time.perf_counter``; ``gaps_s`` lie between events that carried text.

    An answer without any text has its end for its first and last time. An ``error`` voids the rest.
    """

    began_s: float
    ended_s: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)
    text: str = ""
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    error: str = ""


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = 0


class _Message(Struct):
    content: str | None = None
    reasoning: str | None = None


class _Choice(Struct):
    text: str | None = None
    delta: _Message | None = None


class _Failure(Struct):
    message: str = ""


class _Event(Struct):
    choices: list[_Choice] = field(default_factory=list)
    usage: _Usage | None = None
    error: _Failure | None = None


_decoder = msgspec.json.Decoder(_Event)


class _Reply(asyncio.Protocol):
    """Reads one response: server-sent events as they come, anything else as an error's body. Done when ``done`` is."""

    def __init__(self, answer: Answer, request: bytes) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._request = request
        self._parser = httptools.HttpResponseParser(self)
        self._rest = b""
        self._now_s = 0.0
        self._saw_end = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.WriteTransport, transport).write(self._request)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self._now_s = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, msgspec.DecodeError) as error:
            self._finish(f"The answer is not what was expected: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self._finish("" if self._saw_end else f"The connection ended before the stream did ({error or 'closed'}).")

    def on_body(self, body: bytes) -> None:
        """Called by the parser with each piece of the body."""
        *lines, self._rest = (self._rest + body).split(b"\n")
        if self._parser.get_status_code() != 200:
            self._rest = b"\n".join([*lines, self._rest])
            return
        for line in lines:
            if line.startswith(b"data:"):
                self._take(line[5:].strip())

    def on_message_complete(self) -> None:
        """Called by the parser at the end of the response."""
        status = self._parser.get_status_code()
        if status != 200:
            self._finish(f"HTTP {status}: {self._rest[:500].decode('utf-8', 'replace')}")
        elif not self._answer.error and not self._saw_end:
            self._finish("The stream ended without [DONE].")
        else:
            self._finish("")

    def _take(self, payload: bytes) -> None:
        answer = self._answer
        if payload == b"[DONE]":
            self._saw_end = True
            return
        event = _decoder.decode(payload)
        if event.error is not None:
            answer.error = event.error.message or "an error without a message"
        if event.usage is not None:
            answer.num_prompt_tokens = event.usage.prompt_tokens
            answer.num_output_tokens = event.usage.completion_tokens or 0
        if not event.choices:
            return
        choice = event.choices[0]
        if choice.delta is not None:
            piece = (choice.delta.content or "") + (choice.delta.reasoning or "")
        else:
            piece = choice.text or ""
        if not piece:
            return  # names a role or a finish reason, or half a character: nothing that a reader sees
        if not answer.first_s:
            answer.first_s = self._now_s
        else:
            answer.gaps_s.append(self._now_s - answer.last_s)
        answer.last_s = self._now_s
        answer.text += piece

    def _finish(self, error: str) -> None:
        if self.done.done():
            return
        answer = self._answer
        answer.ended_s = time.perf_counter()
        answer.error = answer.error or error
        if not answer.first_s:
            answer.first_s = answer.last_s = answer.ended_s
        self.done.set_result(None)


async def ask(target: Target, body: Mapping[str, object]) -> Answer:
    """Send one request and read its stream to the end. What a server or a network does wrong is in ``Answer.error``."""
    answer = Answer(began_s=time.perf_counter())
    request = _request(target, body)
    transport: asyncio.BaseTransport | None = None
    try:
        transport, reply = await asyncio.get_running_loop().create_connection(
            lambda: _Reply(answer, request),
            target.host,
            target.port,
            ssl=ssl.create_default_context() if target.is_tls else None,
        )
        await reply.done
    except OSError as error:
        answer.error = f"{target.host}:{target.port}: {error}"
    finally:
        if transport is not None:
            transport.close()
    return answer


def _request(target: Target, body: Mapping[str, object]) -> bytes:
    payload = msgspec.json.encode(body)
    lines = [
        f"POST {target.path} HTTP/1.1",
        f"Host: {f'[{target.host}]' if ':' in target.host else target.host}:{target.port}",
        "Content-Type: application/json",
        "Accept: text/event-stream",
        "Connection: close",
        f"Content-Length: {len(payload)}",
        *(f"{name}: {value}" for name, value in target.headers),
    ]
    if any("\r" in line or "\n" in line for line in lines):
        raise ConfigError("A header or the address holds a line break.")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + payload
