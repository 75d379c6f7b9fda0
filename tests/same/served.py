"""The same through a real server: ``python -m tests.same.served --chats 64``.

Streamed chats with the bundled model, one after the other, then all at once while the engine is killed. Each must tell
the same text, the same logprobs and the same end both times. The exit status is 1 when one does not.

Not here: the engine's own conditions (conditions.py).
Door: served.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import NamedTuple

import openai

from tests.e2e.running import Server, start, stop
from tests.e2e.test_engine_killed import engine_of
from training.folio.grammar import any_turn

_SHARE_BEFORE_THE_KILL = 4
"""The engine is killed when one chat in so many has ended."""


class Told(NamedTuple):
    """All that a client learns from one stream."""

    text: str
    logprobs: list[tuple[str, float, list[tuple[str, float]]]]
    finish_reason: str


async def _chat(client: openai.AsyncOpenAI, number: int) -> Told:
    source = Random(number)
    questions = " And then: ".join(any_turn(source).user for _ in range(source.randint(1, 6)))
    texts: list[str] = []
    logprobs: list[tuple[str, float, list[tuple[str, float]]]] = []
    finishes: list[str] = []
    stream = await client.chat.completions.create(
        model="folio",
        messages=[{"role": "user", "content": questions}],
        max_completion_tokens=source.randint(10, 120),
        temperature=0.8 * (number % 2),
        top_p=0.9,
        seed=number,
        logprobs=True,
        top_logprobs=5,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    async for chunk in stream:
        for choice in chunk.choices:
            texts.append(choice.delta.content or "")
            for place in (choice.logprobs.content if choice.logprobs else None) or ():
                others = [(other.token, other.logprob) for other in place.top_logprobs]
                logprobs.append((place.token, place.logprob, others))
            if choice.finish_reason is not None:
                finishes.append(choice.finish_reason)
    [finish] = finishes
    return Told("".join(texts), logprobs, finish)


async def _one_by_one(server: Server, num_chats: int) -> list[Told]:
    async with server.async_client() as client:
        return [await _chat(client, number) for number in range(num_chats)]


async def _at_once(server: Server, num_chats: int) -> list[Told]:
    num_ended = 0

    async def follow(client: openai.AsyncOpenAI, number: int) -> Told:
        nonlocal num_ended
        told = await _chat(client, number)
        num_ended += 1
        if num_ended == num_chats // _SHARE_BEFORE_THE_KILL:
            os.kill(engine_of(server), signal.SIGKILL)
        return told

    async with server.async_client() as client:
        return await asyncio.gather(*(follow(client, number) for number in range(num_chats)))


def served(num_chats: int, folder: Path) -> list[int]:
    """Numbers of the chats that differ. The engine is another one afterwards.

    Raises: AssertionError when the engine was not killed, or killed nobody's stream.
    """
    server = start(folder / "log", "folio")
    try:
        first = engine_of(server)
        expected = asyncio.run(_one_by_one(server, num_chats))
        found = asyncio.run(_at_once(server, num_chats))
        assert engine_of(server) != first, "the engine was not killed"
        assert "unfinished requests will go on" in server.log.read_text()
    finally:
        stop(server)
    return [number for number, (one, other) in enumerate(zip(expected, found, strict=True)) if one != other]


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="Streamed chats tell the same alone, together and across a crash.")
    parser.add_argument("--chats", type=int, default=64)
    num_chats = parser.parse_args().chats
    with tempfile.TemporaryDirectory() as folder:
        different = served(num_chats, Path(folder))
    print(f"{num_chats - len(different)} of {num_chats} chats told the same alone, together and across a crash.")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
