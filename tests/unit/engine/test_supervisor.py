"""The engine that does not die, over processes that only speak the wire."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from quire.config.decided import EngineConfig, KVConfig, KVGroup, KVLayout, SchedulerConfig, WorkerConfig
from quire.core.events import Delta, Scheduled
from quire.core.ids import RequestId
from quire.core.request import Request, Sampling, Stopping
from quire.engine.supervisor import MAX_CRASHES, Supervisor
from quire.errors import CheckpointError, EngineDead, QuireError, SequenceFailed
from tests.unit.engine.listening import events_of

LAYOUT = KVLayout(16, (KVGroup(None, (0,)),), 1, 1024)
CONFIG = EngineConfig(
    SchedulerConfig(4, 64, 128),
    KVConfig(LAYOUT, 8),
    WorkerConfig("nowhere", "cpu", "float32", "dummy", LAYOUT, 8, 4, 64, 128),
)
FAKE = str(Path(__file__).parent / "fake_engine.py")


def client(mode: str = "serve") -> Supervisor:
    memory = Path(tempfile.mkdtemp()) / "ended once"
    return Supervisor(CONFIG, command=(sys.executable, FAKE, mode, str(memory)), trial_s=0.5)


def request(name: str, *prompt_ids: int, max_tokens: int = 3, n: int = 1) -> Request:
    return Request(RequestId(name), prompt_ids, Sampling(seed=0), Stopping(max_tokens), n=n)


def with_client(act: Callable[[Supervisor], Awaitable[None]]) -> None:
    async def body() -> None:
        engine = client()
        await engine.start()
        try:
            await asyncio.wait_for(act(engine), 20)
        finally:
            await engine.stop()
        assert not engine.is_alive

    asyncio.run(body())


async def tokens_of(engine: Supervisor, asked: Request) -> list[int]:
    return [token async for event in events_of(engine, asked) if isinstance(event, Delta) for token in event.token_ids]


def test_a_request_streams_its_events_to_the_end() -> None:
    async def act(engine: Supervisor) -> None:
        events = [event async for event in events_of(engine, request("a", 10, n=2))]
        assert sum(isinstance(event, Scheduled) for event in events) == 2
        deltas = [event for event in events if isinstance(event, Delta)]
        assert [d.token_ids for d in deltas if d.index == 1] == [(11,), (12,), (13,)]
        assert engine.stats.num_running == 1

    with_client(act)


def test_concurrent_requests_do_not_mix() -> None:
    async def act(engine: Supervisor) -> None:
        answers = await asyncio.gather(*(tokens_of(engine, request(f"r{k}", 100 * k)) for k in range(1, 30)))
        assert answers == [[100 * k + 1, 100 * k + 2, 100 * k + 3] for k in range(1, 30)]

    with_client(act)


def test_an_iterator_that_is_closed_cancels_its_request() -> None:
    async def act(engine: Supervisor) -> None:
        stream = events_of(engine, request("w", 7))
        first = asyncio.ensure_future(anext(stream))
        while await engine.command("count_waiting") != "1":
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await stream.aclose()
        assert await engine.command("count_waiting") == "0"

    with_client(act)


def test_a_cancelled_request_finishes_with_abort() -> None:
    async def act(engine: Supervisor) -> None:
        stream = events_of(engine, request("w", 7))
        first = asyncio.ensure_future(anext(stream))
        assert isinstance(await first, Scheduled)
        engine.cancel(RequestId("w"))
        event = await anext(stream)
        assert isinstance(event, Delta) and event.finish == "abort"
        assert [event async for event in stream] == []

    with_client(act)


@pytest.mark.parametrize("kind", [667, 13], ids=["the process ends", "the process sends garbage"])
def test_when_the_engine_is_lost_every_stream_goes_on_as_if_nothing_had_happened(kind: int) -> None:
    async def act(engine: Supervisor) -> None:
        waiting = events_of(engine, request("w", 7, 70, max_tokens=1))
        assert isinstance(await anext(waiting), Scheduled)
        asked = [request("a", 1, 10, max_tokens=40), request("b", kind, 50, max_tokens=6), request("c", 2, 90, n=3)]
        first, second, third = await asyncio.gather(*(tokens_of(engine, one) for one in asked))
        assert first == list(range(11, 51))
        assert second == list(range(51, 57))
        assert sorted(third) == sorted([91, 92, 93] * 3)
        assert engine.num_restarts == 1
        assert isinstance(await anext(waiting), Scheduled), "the request that waited was given to the next engine"
        await waiting.aclose()

    with_client(act)


@pytest.mark.parametrize("kind", [8, 9], ids=["the process is stopped", "a step never ends"])
def test_an_engine_that_hangs_is_replaced_and_its_streams_go_on(kind: int) -> None:
    async def act(engine: Supervisor) -> None:
        stuck = asyncio.ensure_future(tokens_of(engine, request("b", kind, 50, max_tokens=6)))
        started_s = time.monotonic()
        while engine.is_alive and time.monotonic() - started_s < 15:
            await asyncio.sleep(0.01)
        assert time.monotonic() - started_s < 8, "it takes 5 s, and some on a busy machine"
        assert await stuck == list(range(51, 57))
        assert engine.num_restarts == 1

    with_client(act)


def test_a_request_that_outlives_engine_after_engine_gets_every_token_once() -> None:
    async def act(engine: Supervisor) -> None:
        assert await tokens_of(engine, request("a", 668, 10, max_tokens=40)) == list(range(11, 51))
        assert engine.num_restarts >= 3

    with_client(act)


def test_a_request_that_ends_every_engine_fails_alone() -> None:
    async def act(engine: Supervisor) -> None:
        bystander = events_of(engine, request("w", 7, 70, max_tokens=1))
        assert isinstance(await anext(bystander), Scheduled)
        with pytest.raises(SequenceFailed, match="three times"):
            await tokens_of(engine, request("p", 666))
        assert await tokens_of(engine, request("late", 1)) == [2, 3, 4]
        assert engine.is_alive and engine.num_restarts == 3
        await bystander.aclose()

    with_client(act)


def test_a_request_cancelled_while_no_engine_is_there_is_not_resumed() -> None:
    async def act(engine: Supervisor) -> None:
        stream = events_of(engine, request("w", 7, n=2))
        await anext(stream)
        await anext(stream)
        poison = asyncio.ensure_future(tokens_of(engine, request("p", 667, 50)))
        while engine.is_alive:
            await asyncio.sleep(0)
        engine.cancel(RequestId("w"))
        deltas = [await anext(stream), await anext(stream)]
        assert [delta.finish for delta in deltas if isinstance(delta, Delta)] == ["abort", "abort"]
        assert await poison == [51, 52, 53]
        assert await engine.command("count_waiting") == "0"
        assert [event async for event in stream] == []

    with_client(act)


def test_when_engine_after_engine_ends_requests_are_refused_for_a_while() -> None:
    async def act(engine: Supervisor) -> None:
        results = await asyncio.gather(
            *(tokens_of(engine, request(f"p{k}", 666)) for k in range(MAX_CRASHES)), return_exceptions=True
        )
        assert any(isinstance(result, EngineDead) for result in results)
        assert not engine.is_alive
        with pytest.raises(EngineDead, match="rests"):
            await tokens_of(engine, request("late", 1))

    with_client(act)


def test_a_command_that_fails_says_why() -> None:
    async def act(engine: Supervisor) -> None:
        with pytest.raises(QuireError, match="no such command"):
            await engine.command("nonsense")

    with_client(act)


def test_an_engine_that_cannot_start_is_quoted() -> None:
    async def body() -> None:
        engine = client("refuse")
        with pytest.raises(CheckpointError, match="hidden_size is missing"):
            await engine.start()
        await engine.stop()

    asyncio.run(body())


@pytest.mark.parametrize(("mode", "account"), [("die", "exit code 3"), ("be killed", "signal 9; a machine that runs")])
def test_an_engine_that_dies_while_loading_is_noticed(mode: str, account: str) -> None:
    async def body() -> None:
        engine = client(mode)
        with pytest.raises(EngineDead, match=account):
            await engine.start()
        await engine.stop()

    asyncio.run(body())


def test_an_engine_that_could_not_start_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        with pytest.raises(CheckpointError, match="deaf"):
            await client("be deaf").start()

    asyncio.run(body())
    assert "did not end" not in caplog.text


def test_an_engine_that_is_stopped_leaves_no_watcher_behind() -> None:
    async def body() -> None:
        engine = client()
        await engine.start()
        while not any(task.get_name() == "heartbeat" for task in asyncio.all_tasks()):
            await asyncio.sleep(0)
        await engine.stop()
        assert not any(task.get_name() == "heartbeat" for task in asyncio.all_tasks())

    asyncio.run(body())


def test_a_deadline_holds_while_no_engine_answers() -> None:
    async def act(engine: Supervisor) -> None:
        asked = replace(request("late", 7, n=2), deadline_s=time.monotonic() + 0.05)
        finishes = [event.finish async for event in events_of(engine, asked) if isinstance(event, Delta)]
        assert finishes == ["timeout", "timeout"]
        assert await tokens_of(engine, request("next", 10)) == [11, 12, 13]

    with_client(act)
