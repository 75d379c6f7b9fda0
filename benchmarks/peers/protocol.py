"""What a racing engine and the driver say to each other: one JSON object a line, jobs in and answers out.

The engine's process says ``{"ready": true, "version": ..., "settings": {...}}`` once its first token has been computed,
then answers each ``{"prompts": [[ids], ...], "output_len": n}`` with ``{"seconds": s, "outputs": [[ids], ...]}``, or
with ``{"error": text}``. It ends when its input ends. Runs in every engine's environment, so it needs only Python.

Not here: the engines (``*_peer.py``), who starts them (peer_process.py).
Door: serve, arguments, Contender.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Protocol


@dataclass(frozen=True)
class Arguments:
    """What every engine is told: the model's place, its form (such as ``bf16``), and how much it must hold at once."""

    model: str
    form: str
    num_threads: int
    max_num_seqs: int
    max_model_len: int


class Contender(Protocol):
    """An engine, loaded. ``settings`` are those that differ from its own defaults or are worth knowing."""

    version: str
    settings: dict[str, object]

    def prepare(self, prompts: Sequence[Sequence[int]], output_len: int) -> None:
        """Make room for a job, outside the time that counts."""

    def generate(self, prompts: Sequence[Sequence[int]], output_len: int) -> Sequence[Sequence[int]]:
        """Greedy continuations of exactly ``output_len`` ids, in the order of the prompts."""


def arguments() -> Arguments:
    """The command line of an engine's process."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("model")
    parser.add_argument("--form", default="bf16")
    parser.add_argument("--num-threads", type=int, required=True)
    parser.add_argument("--max-num-seqs", type=int, required=True)
    parser.add_argument("--max-model-len", type=int, required=True)
    return Arguments(**vars(parser.parse_args()))


def own_stdout() -> IO[str]:
    """The standard output for answers alone: whatever else writes there goes to standard error from now on.

    Called before a library is imported, because libraries write greetings.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def serve(engine: Contender, answers: IO[str]) -> None:
    """Compute a first token, say ready, and answer jobs until the input ends."""
    _run(engine, [[1, 2, 3, 4]], 1)
    _say(answers, {"ready": True, "version": engine.version, "settings": engine.settings})
    for line in sys.stdin:
        job = json.loads(line)
        try:
            _say(answers, _run(engine, job["prompts"], job["output_len"]))
        except Exception as error:  # An engine may raise anything; the driver goes on with the other engines.
            _say(answers, {"error": f"{type(error).__name__}: {error}"})


def _run(engine: Contender, prompts: Sequence[Sequence[int]], output_len: int) -> dict[str, object]:
    engine.prepare(prompts, output_len)
    begun = time.perf_counter()
    outputs = engine.generate(prompts, output_len)
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "outputs": [list(map(int, ids)) for ids in outputs]}


def _say(answers: IO[str], answer: dict[str, object]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
