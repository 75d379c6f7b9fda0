"""quire/bench/stream.py against a server that says what the test wrote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from quire.bench.stream import Answer, Target, ask
from quire.errors import ConfigError

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(*pieces: bytes) -> bytes:
    """The pieces as chunks of a chunked body, with its end."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@asynccontextmanager
async def canned(*writes: bytes) -> AsyncIterator[Target]:
    """A server that reads one request and sends these bytes, each in a write of its own."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
        await reader.readexactly(length)
        for data in writes:
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield Target("127.0.0.1", port, "/v1/completions")


async def ask_canned(*writes: bytes) -> Answer:
    async with canned(*writes) as target:
        return await ask(target, {"prompt": [1, 2]})


async def test_events_cut_anywhere_give_the_whole_text_and_the_servers_counts() -> None:
    body = (
        b'data: {"choices":[{"text":"Hel"}]}\n\n'
        b'data: {"choices":[{"text":"lo"}]}\n\n'
        b'data: {"choices":[{"text":"!","finish_reason":"length"}]}\n\n'
        b'data: {"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}}\n\n'
        b"data: [DONE]\n\n"
    )
    for size in (1, 7, 1000):
        pieces = [body[i : i + size] for i in range(0, len(body), size)]
        answer = await ask_canned(OK, chunked(*pieces))
        assert (answer.text, answer.error) == ("Hello!", "")
        assert (answer.num_prompt_tokens, answer.num_output_tokens) == (2, 3)
        assert len(answer.gaps_s) == 2
        assert answer.began_s <= answer.first_s <= answer.last_s <= answer.ended_s


async def test_the_role_event_of_a_chat_is_not_the_first_token() -> None:
    body = (
        b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
        b"data: [DONE]\n\n"
    )
    answer = await ask_canned(OK, chunked(body))
    assert (answer.text, answer.gaps_s, answer.error) == ("a", [], "")


async def test_an_answer_without_text_ends_when_it_began_to_speak() -> None:
    answer = await ask_canned(OK, chunked(b"data: [DONE]\n\n"))
    assert answer.first_s == answer.last_s == answer.ended_s > answer.began_s


@pytest.mark.parametrize(
    ("writes", "said"),
    [
        ((b'HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\n\r\n{"no":1}\n',), 'HTTP 400: {"no":1}'),
        ((OK, b'2f\r\ndata: {"choices":[{"text":"a"}]}'), "ended before"),
        ((OK, chunked(b'data: {"choices":[]}\n\n')), "without [DONE]"),
        ((OK, chunked(b'data: {"error":{"message":"it broke"}}\n\n', b"data: [DONE]\n\n")), "it broke"),
        ((OK, chunked(b"data: {nonsense\n\n")), "not what was expected"),
        ((b"SSH-2.0-OpenSSH\r\n\r\n",), "not what was expected"),
    ],
)
async def test_what_goes_wrong_is_said_in_the_answer(writes: tuple[bytes, ...], said: str) -> None:
    assert said in (await ask_canned(*writes)).error


async def test_nobody_listening_is_an_answer_with_an_error() -> None:
    async with canned() as target:
        pass
    answer = await ask(target, {})
    assert str(target.port) in answer.error


def test_addresses_are_read_with_their_defaults() -> None:
    assert Target.parse("http://h:81/base/", "/v1/x", {}) == Target("h", 81, "/base/v1/x")
    assert Target.parse("https://h", "/v1/x", {"a": "b"}) == Target("h", 443, "/v1/x", True, (("a", "b"),))


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h", "http://", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="address"):
        Target.parse(url, "/v1/x", {})


async def test_a_header_cannot_smuggle_another() -> None:
    with pytest.raises(ConfigError, match="line break"):
        await ask(Target("127.0.0.1", 1, "/", headers=(("a", "b\r\nc: d"),)), {})
