"""Pieces in batches: nothing is lost however slowly a client reads, and a failure stays with its request."""

from __future__ import annotations

import asyncio
import json

import pytest

from quire.core.events import Delta
from quire.text.stream import Piece, RequestStream
from tests.unit.server.site import Site, Wire

CHAT = b'{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20, "stream": true, '
TEXT = b'{"prompt": ["Hello", "you"], "max_tokens": 20, "stream": true, '
USAGE = b'"stream_options": {"include_usage": true, "continuous_usage_stats": true}}'


async def read_slowly(site: Site, wire: Wire) -> list[dict[str, object]]:
    """The events of a client that reads nothing from the third message on until the engine has said everything."""
    reads = asyncio.Event()
    send = wire.send

    async def slowly(message: dict[str, object]) -> None:
        await send(message)
        if len(wire.sent) == 3:
            await reads.wait()

    wire.send = slowly  # type: ignore[method-assign]
    running = asyncio.ensure_future(wire.run(site.app))
    while not site.engine.closed or len(site.engine.closed) < len(site.engine.requests):
        await asyncio.sleep(0)
    reads.set()
    await asyncio.wait_for(running, 5)
    return [json.loads(part[6:]) for part in wire.body.split(b"\n\n") if part and part != b"data: [DONE]"]


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)])
async def test_events_that_come_while_a_client_does_not_read_are_sent_together(path: str, body: bytes) -> None:
    quick, slow = Site(), Site()
    all_at_once = await Wire(path=path, body=[body + USAGE]).run(quick.app)
    wire = Wire(path=path, body=[body + USAGE])
    events = await read_slowly(slow, wire)
    assert len(wire.sent) < len(all_at_once.sent) / 2
    assert wire.body.count(b"data: ") == all_at_once.body.count(b"data: ")
    counts = [event["usage"]["completion_tokens"] for event in events]  # type: ignore[index]
    assert counts == sorted(counts)
    assert set(range(1, counts[-1] + 1)) <= set(counts), "each event counts the tokens up to it, not what came since"


async def test_a_text_that_cannot_be_made_ends_its_own_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    feed = RequestStream.feed

    def fails_for_the_first(stream: RequestStream, delta: Delta, at_s: float = 0.0) -> Piece | None:
        if stream.request.id == site.engine.requests[0].id and delta.token_ids == (site.engine.says[2],):
            raise RuntimeError("a bug in the text of one request")
        return feed(stream, delta, at_s)

    monkeypatch.setattr(RequestStream, "feed", fails_for_the_first)
    first, second = await asyncio.gather(site.complete(max_tokens=8), site.complete(max_tokens=8))
    assert (first.status_code, second.status_code) == (500, 200)
    assert second.json()["usage"]["completion_tokens"] == 8
    assert (site.engine.requests[0].id, None) in site.engine.cancelled
    assert b'finished_reason="length"' in site.metrics.render()


async def test_the_load_is_nothing_when_the_engine_takes_no_request() -> None:
    site = Site(tracks_load=True)
    site.engine.is_alive = False
    assert (await site.complete(prompt=["One", "Two"])).status_code == 503
    assert b'{"server_load":0}' in (await site.ask("GET", "/load")).content
