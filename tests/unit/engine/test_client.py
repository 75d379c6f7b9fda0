"""The front's handle on an engine process, against a process that only speaks the wire."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from quire.config.decided import EngineConfig, KVConfig, KVGroup, KVLayout, SchedulerConfig, WorkerConfig
from quire.core.events import Delta, Scheduled
from quire.core.ids import RequestId
from quire.core.request import Request, Sampling, Stopping
from quire.engine.client import ProcessClient
from quire.errors import CheckpointError, EngineDead, QuireError

LAYOUT = KVLayout(16, (KVGroup(None, (0,)),), 1, 1024)
CONFIG = EngineConfig(
    SchedulerConfig(4, 64, 128),
    KVConfig(LAYOUT, 8),
    WorkerConfig("nowhere", "cpu", "float32", "dummy", LAYOUT, 8, 4, 64, 128),
)
FAKE = str(Path(__file__).parent / "fake_engine.py")


def client(mode: str = "serve") -> ProcessClient:
    return ProcessClient(CONFIG, command=(sys.executable, FAKE, mode))


def request(name: str, *prompt_ids: int, max_tokens: int = 3, n: int = 1) -> Request:
    return Request(RequestId(name), prompt_ids, Sampling(seed=0), Stopping(max_tokens), n=n)


def with_client(act: Callable[[ProcessClient], Awaitable[None]]) -> None:
    async def body() -> None:
        engine = client()
        await engine.start()
        try:
            await asyncio.wait_for(act(engine), 20)
        finally:
            await engine.stop()
        assert not engine.is_alive

    asyncio.run(body())


async def tokens_of(engine: ProcessClient, asked: Request) -> list[int]:
    return [token async for event in engine.submit(asked) if isinstance(event, Delta) for token in event.token_ids]


def test_a_request_streams_its_events_to_the_end() -> None:
    async def act(engine: ProcessClient) -> None:
        events = [event async for event in engine.submit(request("a", 10, n=2))]
        assert sum(isinstance(event, Scheduled) for event in events) == 2
        deltas = [event for event in events if isinstance(event, Delta)]
        assert [d.token_ids for d in deltas if d.index == 1] == [(11,), (12,), (13,)]
        assert engine.stats.num_running == 1

    with_client(act)


def test_concurrent_requests_do_not_mix() -> None:
    async def act(engine: ProcessClient) -> None:
        answers = await asyncio.gather(*(tokens_of(engine, request(f"r{k}", 100 * k)) for k in range(1, 30)))
        assert answers == [[100 * k + 1, 100 * k + 2, 100 * k + 3] for k in range(1, 30)]

    with_client(act)


def test_an_iterator_that_is_closed_cancels_its_request() -> None:
    async def act(engine: ProcessClient) -> None:
        stream = engine.submit(request("w", 7))
        first = asyncio.ensure_future(anext(stream))
        while await engine.command("count_waiting") != "1":
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await stream.aclose()
        assert await engine.command("count_waiting") == "0"

    with_client(act)


def test_a_cancelled_request_finishes_with_abort() -> None:
    async def act(engine: ProcessClient) -> None:
        stream = engine.submit(request("w", 7))
        first = asyncio.ensure_future(anext(stream))
        while await engine.command("count_waiting") != "1":
            await asyncio.sleep(0)
        engine.cancel(RequestId("w"))
        event = await first
        assert isinstance(event, Delta) and event.finish == "abort"
        assert [event async for event in stream] == []

    with_client(act)


@pytest.mark.parametrize("poison", [666, 13], ids=["the process ends", "the process sends garbage"])
def test_when_the_engine_is_lost_every_waiting_request_is_told(poison: int) -> None:
    async def act(engine: ProcessClient) -> None:
        deaths: list[int] = []
        engine.on_death.append(lambda: deaths.append(1))
        waiting = asyncio.ensure_future(tokens_of(engine, request("w", 7)))
        while await engine.command("count_waiting") != "1":
            await asyncio.sleep(0)
        with pytest.raises(EngineDead):
            await tokens_of(engine, request("p", poison))
        with pytest.raises(EngineDead):
            await waiting
        assert deaths == [1] and not engine.is_alive
        with pytest.raises(EngineDead):
            await tokens_of(engine, request("late", 1))

    with_client(act)


def test_a_command_that_fails_says_why() -> None:
    async def act(engine: ProcessClient) -> None:
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


def test_an_engine_that_dies_while_loading_is_noticed() -> None:
    async def body() -> None:
        engine = client("die")
        with pytest.raises(EngineDead, match="exit code 3"):
            await engine.start()
        await engine.stop()

    asyncio.run(body())
