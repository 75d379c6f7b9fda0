"""The engine is killed while it answers, and no client notices more than a pause."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.e2e.running import Server, start, stop

pytestmark = pytest.mark.xdist_group("killed server")


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start(tmp_path_factory.mktemp("mortal") / "log", "folio", "--dtype", "float32")
    yield running
    stop(running)


def engine_of(server: Server) -> int:
    """The process id of the server's only child."""
    [engine] = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _parent(entry) == server.process.pid
    ]
    return engine


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


async def told(
    client: openai.AsyncOpenAI, prompt: str, temperature: float, seed: int, begun: asyncio.Event
) -> list[str]:
    """The texts of two samples, put together from a stream."""
    texts = ["", ""]
    stream = await client.completions.create(
        model="folio",
        prompt=prompt,
        max_tokens=300,
        temperature=temperature,
        seed=seed,
        n=2,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    finishes = []
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            if choice.finish_reason is not None:
                finishes.append(choice.finish_reason)
        begun.set()
    assert finishes == ["length", "length"]
    return texts


def test_streams_go_on_with_the_same_tokens_when_the_engine_is_killed(mortal: Server) -> None:
    prompts = [f"Once upon a time there was a {animal}" for animal in ("fox", "dog", "cat", "bear", "swan", "horse")]

    async def ask_all(kills: bool) -> list[list[str]]:
        async with mortal.async_client() as client:
            begun = [asyncio.Event() for _ in prompts]
            answers = asyncio.gather(
                *(
                    told(client, prompt, temperature=number % 2, seed=number, begun=begun[number])
                    for number, prompt in enumerate(prompts)
                )
            )
            if kills:
                await asyncio.gather(*(event.wait() for event in begun))
                os.kill(engine_of(mortal), signal.SIGKILL)
            return await answers

    undisturbed = asyncio.run(ask_all(kills=False))
    first = engine_of(mortal)
    assert asyncio.run(ask_all(kills=True)) == undisturbed
    assert engine_of(mortal) != first
    assert httpx.get(f"{mortal.url}/health").status_code == 200


def test_nothing_is_left_when_the_front_is_killed(tmp_path: Path) -> None:
    server = start(tmp_path / "log", "folio")
    engine = engine_of(server)
    pidfd = os.pidfd_open(engine)
    try:
        server.process.kill()
        server.process.wait()
        ended, _, _ = select.select([pidfd], [], [], 5)
        assert ended, "the engine outlives its front"
    finally:
        os.close(pidfd)


def test_an_engine_that_is_stopped_is_unhealthy_and_replaced(mortal: Server) -> None:
    stopped = engine_of(mortal)
    os.kill(stopped, signal.SIGSTOP)
    began_s = time.monotonic()
    while httpx.get(f"{mortal.url}/health").status_code == 200:
        assert time.monotonic() - began_s < 10, "health says 200 of an engine that is stopped"
        select.select([], [], [], 0.1)
    while httpx.get(f"{mortal.url}/health").status_code != 200:
        assert time.monotonic() - began_s < 60, "no other engine was started"
        select.select([], [], [], 0.1)
    assert engine_of(mortal) != stopped
