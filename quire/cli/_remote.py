"""Talking to a server from a terminal: its first model, its stream of pieces, and errors a person can act on.

Not here: what is said (chat.py, complete.py), measuring under load (bench/).
Door: Remote, add_remote_arguments, open_remote, Stats.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import httpx2
import msgspec
from msgspec import Struct, field

from quire.errors import QuireError


class RemoteError(QuireError):
    """The server cannot be reached, refused, or broke off; the message says which and what to do."""


class Piece(Struct):
    """Text that arrived with one event; ``num_tokens`` is the answer's count so far where the server says it."""

    text: str
    num_tokens: int | None = None


class _Usage(Struct):
    completion_tokens: int | None = None


class _Message(Struct):
    content: str | None = None


class _Choice(Struct):
    text: str | None = None
    delta: _Message | None = None


class _Failure(Struct):
    message: str = ""


class _Event(Struct):
    choices: list[_Choice] = field(default_factory=list)
    usage: _Usage | None = None
    error: _Failure | None = None


class _Model(Struct):
    id: str


class _Models(Struct):
    data: list[_Model]


class Remote:
    """One server behind one base URL that ends in ``/v1``. Close it, or use it in ``with``."""

    def __init__(self, url: str, api_key: str | None, *, transport: httpx2.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        timeout = httpx2.Timeout(10, read=None)  # a first token may take as long as a prompt is long
        try:
            self._client = httpx2.Client(headers=headers, timeout=timeout, transport=transport)
        except UnicodeEncodeError:
            raise RemoteError("The API key holds a character that a header cannot carry.") from None

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def first_model(self) -> str:
        """The first model that the server lists.

        Raises: RemoteError when it lists none, or does not answer.
        """
        try:
            answer = self._client.get(f"{self.url}/models")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._unreachable(error) from None
        self._check(answer)
        try:
            models = msgspec.json.decode(answer.content, type=_Models).data
        except msgspec.DecodeError:
            raise RemoteError(f"{self.url}/models is not answered as OpenAI does. Does --url end in /v1?") from None
        if not models:
            raise RemoteError(f"{self.url} lists no model.")
        return models[0].id

    def stream(self, path: str, body: Mapping[str, object]) -> Iterator[Piece]:
        """Send the body with ``stream`` on and give the pieces as they come. Closing the iterator ends the request.

        Raises: RemoteError.
        """
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        try:
            with self._client.stream("POST", f"{self.url}{path}", json=asked) as answer:
                if answer.status_code != 200:
                    answer.read()
                self._check(answer)
                yield from self._pieces(answer)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._unreachable(error) from None

    def _pieces(self, answer: httpx2.Response) -> Iterator[Piece]:
        for line in answer.iter_lines():
            if not line.startswith("data:"):
                continue
            payload = line[5:].strip()
            if payload == "[DONE]":
                return
            try:
                event = msgspec.json.decode(payload, type=_Event)
            except msgspec.DecodeError as error:
                raise RemoteError(f"{self.url} sent an event that is no completion: {error}") from None
            if event.error is not None:
                raise RemoteError(f"The server broke off: {event.error.message or 'no reason given'}")
            text = "".join(
                choice.text or (choice.delta.content if choice.delta else None) or "" for choice in event.choices
            )
            yield Piece(text, event.usage.completion_tokens if event.usage else None)
        raise RemoteError("The stream ended before the answer did.")

    def _check(self, answer: httpx2.Response) -> None:
        if answer.status_code == 200:
            return
        try:
            failure = msgspec.json.decode(answer.content, type=_Event).error
        except msgspec.DecodeError:
            failure = None
        message = failure.message if failure and failure.message else answer.text[:300]
        hint = " Give --api-key, or set OPENAI_API_KEY." if answer.status_code == 401 else ""
        raise RemoteError(f"{self.url} answered {answer.status_code}: {message}{hint}")

    def _unreachable(self, error: Exception) -> RemoteError:
        if isinstance(error, httpx2.ConnectError):
            return RemoteError(f"No server listens at {self.url}. Start one with `quire serve`, or name it with --url.")
        return RemoteError(f"{self.url}: {str(error) or type(error).__name__}")


class Stats:
    """Times one answer: seconds to the first text, tokens a second after it."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._begun_s = clock()
        self._first_s: float | None = None
        self._last_s = self._begun_s
        self._num_tokens: int | None = None

    def take(self, piece: Piece) -> None:
        """Count a piece that just came."""
        if piece.num_tokens is not None:
            self._num_tokens = piece.num_tokens
        if piece.text:
            self._last_s = self._clock()
            self._first_s = self._last_s if self._first_s is None else self._first_s

    def line(self) -> str:
        """The figures in one line; only those there are."""
        if self._first_s is None:
            return "no text"
        parts = [f"first text after {self._first_s - self._begun_s:.3f} s"]
        if self._num_tokens is not None:
            parts.append(f"{self._num_tokens} tokens")
            span_s = self._last_s - self._first_s
            if self._num_tokens > 1 and span_s > 0:
                parts.append(f"{(self._num_tokens - 1) / span_s:.1f} tokens/s")
        return ", ".join(parts)


def add_remote_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that every command against a server takes."""
    parser.add_argument("--url", default="http://localhost:8000/v1", help="base address of the server (%(default)s)")
    parser.add_argument("--model-name", metavar="NAME", help="model to ask; the server's first when not given")
    parser.add_argument("--api-key", metavar="KEY", help="the server's key; else the variable OPENAI_API_KEY")
    parser.add_argument("-q", "--quick", metavar="TEXT", help="say this one thing, print the answer and end")
    parser.add_argument("--stats", action="store_true", help="after each answer, print its times to standard error")


def key_of_environment() -> str | None:
    """The key that every client of such a server looks for: the variable OPENAI_API_KEY."""
    return os.environ.get("OPENAI_API_KEY")


def open_remote(args: argparse.Namespace) -> tuple[Remote, str]:
    """The server and the model that the flags name.

    Raises: RemoteError.
    """
    remote = Remote(args.url, args.api_key or key_of_environment())
    try:
        return remote, args.model_name or remote.first_model()
    except RemoteError:
        remote.close()
        raise


def say(pieces: Iterator[Piece], *, shows_stats: bool) -> str:
    """Print an answer as it comes and give it back whole. Ctrl-C ends the answer, not the program."""
    stats = Stats()
    text = []
    try:
        for piece in pieces:
            stats.take(piece)
            text.append(piece.text)
            print(piece.text, end="", flush=True)
    except KeyboardInterrupt:
        print(" [stopped]", end="")
    finally:
        print(flush=True)
    if shows_stats:
        print(stats.line(), file=sys.stderr)
    return "".join(text)


def each_line(act: Callable[[str], object]) -> None:
    """Give each line that a person types to ``act``; what the server refuses is printed, and the person goes on."""
    for line in lines_of_a_person():
        try:
            act(line)
        except RemoteError as error:
            print(error.message, file=sys.stderr)


def lines_of_a_person(prompt: str = "> ") -> Iterator[str]:
    """What a person types, line by line, until Ctrl-D or Ctrl-C, without blank lines. A pipe is shown no prompt."""
    while True:
        try:
            line = input(prompt if sys.stdin.isatty() else "")
        except (EOFError, KeyboardInterrupt):
            return
        if line.strip():
            yield line
