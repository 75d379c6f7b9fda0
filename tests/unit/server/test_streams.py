"""Streams and failures: when an answer begins, how it ends, and what happens when the client leaves."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator

import pytest

from quire.engine.admission import QueueLimits
from quire.errors import NotSupported, Overloaded, QuireError
from quire.server.faults import fault_bytes, fault_of, fault_response
from quire.server.sse import DONE, KEEP_ALIVE, EventStream
from tests.unit.server.site import Site, Wire, fault

CHAT = b'{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 40, "n": 2'
TEXT = b'{"prompt": ["Hello", "you"], "max_tokens": 40'
DOORS = [("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)]


async def until(wire: Wire) -> None:
    await asyncio.wait_for(wire.has_data.wait(), 5)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("is_chat", [False, True])
async def test_a_failure_before_the_first_token_has_a_status_of_its_own(is_chat: bool, stream: bool) -> None:
    site = Site()
    site.engine.fails_at = 0
    failed = await (site.chat(stream=stream) if is_chat else site.complete(stream=stream))
    assert (failed.status_code, fault(failed)["type"], fault(failed)["code"]) == (
        500,
        "server_error",
        "sequence_failed",
    )
    assert failed.headers["x-should-retry"] == "false"
    message = str(fault(failed)["message"])
    assert "NaN" in message
    assert "/opt" not in message
    assert "deadbeef" not in message
    assert b'finished_reason="error",model_name="house/tiny-1"} 1.0' in site.metrics.render()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_dead_engine_is_told_with_a_hint_when_to_come_back(stream: bool) -> None:
    site = Site()
    site.engine.dies_at = 0
    failed = await site.chat(stream=stream)
    assert (failed.status_code, fault(failed)["code"]) == (503, "engine_dead")
    assert "x-should-retry" not in failed.headers
    assert int(failed.headers["retry-after"]) > 0
    assert (await site.ask("GET", "/health")).status_code == 503


@pytest.mark.parametrize("kind", ["fails_at", "dies_at"])
@pytest.mark.parametrize("is_chat", [False, True])
async def test_a_failure_in_a_stream_is_an_error_event_and_no_end_that_looks_like_success(
    is_chat: bool, kind: str
) -> None:
    site = Site()
    setattr(site.engine, kind, 2)
    failed = await (site.chat(stream=True, n=2) if is_chat else site.complete(stream=True, prompt=["a", "b"]))
    assert failed.status_code == 200
    *chunks, error, done = [line[6:] for line in failed.text.strip().split("\n\n")]
    assert done == "[DONE]"
    assert set(json.loads(error)) == {"error"}
    reasons = [choice["finish_reason"] for chunk in chunks for choice in json.loads(chunk)["choices"]]
    assert set(reasons) == {None}
    assert len(site.engine.closed) == len(site.engine.requests)


async def test_a_failure_in_the_middle_of_a_whole_answer_is_no_answer() -> None:
    site = Site()
    site.engine.fails_at = 2
    assert (await site.chat()).status_code == 500


@pytest.mark.parametrize(("path", "body"), DOORS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_has_its_request_cancelled(path: str, body: bytes, stream: bool) -> None:
    site = Site()
    site.engine.gate = asyncio.Event()
    wire = Wire(path=path, body=[body + (b', "stream": true}' if stream else b"}")])
    running = asyncio.ensure_future(wire.run(site.app))
    while not site.engine.requests:
        await asyncio.sleep(0)
    wire.gone.set()
    await asyncio.wait_for(running, 5)
    assert {request.id for request in site.engine.requests} == set(site.engine.closed)
    assert {request.id for request in site.engine.requests} <= {request_id for request_id, _ in site.engine.cancelled}
    assert wire.status == 499
    assert b'finished_reason="abort"' in site.metrics.render()


@pytest.mark.parametrize(("path", "body"), DOORS)
async def test_a_client_that_leaves_in_the_middle_of_a_stream_has_it_cancelled(path: str, body: bytes) -> None:
    site = Site()
    wire = Wire(path=path, body=[body + b', "stream": true}'])
    stop_after = 5

    async def send(message: dict[str, object]) -> None:
        wire.sent.append(message)
        if len(wire.sent) == stop_after:
            wire.gone.set()
            await asyncio.sleep(3600)

    wire.send = send  # type: ignore[method-assign]
    await asyncio.wait_for(wire.run(site.app), 5)
    assert len(wire.sent) == stop_after
    assert {request.id for request in site.engine.requests} == set(site.engine.closed)
    assert DONE not in wire.body


async def test_events_are_sent_one_by_one_as_they_come() -> None:
    site = Site()
    wire = await Wire(body=[b'{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "stream": true}']).run(
        site.app
    )
    bodies = [message["body"] for message in wire.sent[1:]]
    assert len(bodies) == 5 + 1
    assert [body.count(b"data: ") for body in bodies if isinstance(body, bytes)] == [2, 1, 1, 1, 1, 1]
    assert bodies[-1] == DONE
    assert [message.get("more_body") for message in wire.sent[1:]] == [True] * 5 + [False]
    assert wire.headers[b"content-type"] == b"text/event-stream; charset=utf-8"


async def test_comments_keep_a_silent_stream_alive() -> None:
    site = Site(sse_keep_alive_s=0.01)
    site.engine.gate = asyncio.Event()
    wire = Wire(body=[CHAT + b', "stream": true}'])
    running = asyncio.ensure_future(wire.run(site.app))
    await until(wire)
    assert wire.body.startswith(KEEP_ALIVE)
    assert wire.status == 200
    site.engine.gate.set()
    await asyncio.wait_for(running, 5)
    assert wire.body.endswith(DONE)


async def test_a_failure_after_a_comment_is_an_event() -> None:
    site = Site(sse_keep_alive_s=0.01)
    site.engine.gate = asyncio.Event()
    site.engine.fails_at = 0
    wire = Wire(body=[CHAT + b', "stream": true}'])
    running = asyncio.ensure_future(wire.run(site.app))
    await until(wire)
    site.engine.gate.set()
    await asyncio.wait_for(running, 5)
    assert b'data: {"error":' in wire.body
    assert wire.body.endswith(DONE)


async def test_no_comment_follows_the_end() -> None:
    async def none() -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(0.03)
        yield b"data: 1\n\n"

    wire = Wire(body=[])
    stream = EventStream(none(), keep_alive_s=0.001)
    await stream(wire.scope, wire.receive, wire.send)  # type: ignore[arg-type]
    assert wire.body.endswith(b"data: 1\n\n" + DONE)


async def test_a_bug_is_answered_with_a_sentence_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()

    def admit(*args: object, **options: object) -> None:
        raise ValueError("secret /etc/passwd 0x7fffdeadbeef")

    site.front.validator.admit = admit  # type: ignore[method-assign,assignment]
    failed = await site.chat()
    assert failed.status_code == 500
    assert fault(failed)["message"] == "Something went wrong inside the server."
    assert failed.headers["x-should-retry"] == "false"
    assert any(record.exc_info for record in caplog.records)


def test_an_error_body_is_cut_whatever_its_message_holds() -> None:
    for text in ("x" * 10**6, "\x00" * 10**6, "😀" * 10**6, '"' * 10**6, "\ud800" * 10**6):
        assert len(fault_bytes(NotSupported(text, param=text))) <= 4096


def test_a_message_of_the_engine_loses_addresses_and_paths_and_a_client_s_keeps_routes() -> None:
    failed = fault_bytes(QuireError("at <X object at 0x7f00aabbccdd> in /usr/lib/python3/x.py and ~/models/y"))
    assert failed.count(b"<path>") == 2
    assert b"<address>" in failed
    assert b"/v1/completions" in fault_bytes(NotSupported("Use /v1/completions."))


def test_an_overloaded_server_says_when_to_come_back() -> None:
    response = fault_response(Overloaded("Too many requests wait.", retry_after_s=7))
    assert (response.status_code, response.headers["retry-after"]) == (503, "7")
    assert "x-should-retry" not in response.headers
    assert fault_of(KeyError("x")).status == 500


@pytest.mark.parametrize("stream", [False, True])
async def test_who_would_wait_too_long_is_refused_at_once_and_told_when_to_come_again(stream: bool) -> None:
    site = Site(limits=QueueLimits(0, None, None, 1, 64))
    site.engine.gate = asyncio.Event()
    first = asyncio.ensure_future(site.chat())
    while not site.engine.requests:
        await asyncio.sleep(0)
    refused = await site.chat(stream=stream)
    assert (refused.status_code, fault(refused)["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert b'admission_rejections_total{model_name="house/tiny-1",reason="max_num_queued_reqs"} 1.0' in (
        site.metrics.render()
    )
    site.engine.gate.set()
    assert (await first).status_code == 200
    assert (await site.chat()).status_code == 200


@pytest.mark.parametrize(("fields", "headers"), [({"timeout": 2.5}, {}), ({}, {"X-Request-Timeout": "2.5"})])
async def test_a_timeout_becomes_a_deadline(fields: dict[str, object], headers: dict[str, str]) -> None:
    site = Site()
    body = {"prompt": "Hello", "max_tokens": 1, **fields}
    before_s = time.monotonic()
    answer = await site.ask("POST", "/v1/completions", json=body, headers=headers)
    assert answer.status_code == 200
    assert before_s + 2.5 <= site.engine.requests[0].deadline_s <= time.monotonic() + 2.5


@pytest.mark.parametrize("value", [0, -1, 1e9, "soon"])
async def test_a_timeout_that_is_none_is_refused(value: object) -> None:
    assert (await Site().complete(timeout=value)).status_code == 400
    headers = {"X-Request-Timeout": str(value)}
    answer = await Site().ask("POST", "/v1/completions", json={"prompt": "a"}, headers=headers)
    assert (answer.status_code, fault(answer)["param"]) == (400, "timeout")
