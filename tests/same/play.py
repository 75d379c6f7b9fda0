"""Ask an engine everything under one condition.

``python -m tests.same.play`` plays one part in a process of its own: a Part as JSON in, a Played as MessagePack out.

Not here: what the answers are compared with (run.py).
Door: Part, Played, play.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import msgspec
from msgspec import Struct, field

from quire.assemble import engine_config, text_parts
from quire.config.asked import engine_options
from quire.config.kv_layout import blocks_for
from quire.config.resolve import resolve_engine
from quire.config.root import Decided
from quire.core.events import Delta
from quire.core.ids import RequestId
from quire.core.step import StepPlan, StepResult
from quire.engine.supervisor import Supervisor
from quire.llm import LLM
from quire.text.stream import RequestStream
from quire.text.tokenizer import Tokenizer
from tests.same.answers import Answer, answer_of
from tests.same.asks import ROOM, Ask, asks
from tests.same.conditions import ALONE, CONDITIONS, Condition
from tests.unit.engine.listening import events_of

CONDITION_BY_NAME = {condition.name: condition for condition in (ALONE, *CONDITIONS)}
_ROOT = Path(__file__).resolve().parents[2]


class Part(Struct, frozen=True):
    """What to play: so many prompts of a model in one form under one condition."""

    model: str
    options: dict[str, object]
    isa: str
    condition: str
    num_prompts: int


class Played(Struct):
    """Answers in the order of the asks, for each pass; what the engine counted on the way."""

    passes: list[list[Answer]]
    counters: dict[str, int] = field(default_factory=dict)
    cpu_s: float = 0.0

    @property
    def missing(self) -> list[str]:
        """Counters that stayed 0."""
        return [name for name, count in self.counters.items() if count == 0]


def play(part: Part, *, is_fresh: bool = False) -> Played:
    """Play a part where its condition says; ``is_fresh``: this process was started for it.

    Raises: ConfigError when the form or the condition cannot be had. AssertionError when a request failed.
    """
    condition = CONDITION_BY_NAME[part.condition]
    started_s = _cpu_s()
    if not is_fresh and (part.isa or condition.place == "fresh"):
        played = _play_elsewhere(part)
    elif condition.place == "killed":
        played = asyncio.run(_play_killed(part, condition))
    else:
        played = _play_here(part, condition)
    played.cpu_s = _cpu_s() - started_s
    return played


def _asks_of(decided: Decided, num_prompts: int) -> list[Ask]:
    """What a model is asked."""
    text = decided.text
    tokenizer = None if text.skip_tokenizer_init else Tokenizer.load(text.tokenizer_path)
    return asks(num_prompts, text.vocab_size, tokenizer)


def _prepared(part: Part, condition: Condition) -> tuple[list[Ask], dict[str, object], Decided]:
    """What is asked, the engine's options, and what follows from them. Tiny models have no tokenizer.

    The context is no longer than needed, so that a pool that holds one sequence of full length is soon short.
    """
    options = {"skip_tokenizer_init": part.model != "folio", **part.options, **condition.options}
    asked = _asks_of(resolve_engine(engine_options(model=part.model, **options), "llm"), part.num_prompts)
    options["max_model_len"] = max(len(ask.prompt_ids) for ask in asked) + ROOM
    layout = resolve_engine(engine_options(model=part.model, **options), "llm").kv.layout
    options["num_gpu_blocks_override"] = int(condition.pool * blocks_for(layout, options["max_model_len"]))
    return asked, options, resolve_engine(engine_options(model=part.model, **options), "llm")


def _play_here(part: Part, condition: Condition) -> Played:
    asked, options, _ = _prepared(part, condition)
    size = condition.at_once or len(asked)
    llm = LLM(part.model, **options)
    faults = _plant_faults(llm, condition.fails_every) if condition.fails_every else []
    passes = []
    for _ in condition.pass_names:
        answers: list[Answer] = []
        for first in range(0, len(asked), size):
            some = asked[first : first + size]
            outputs = llm.generate(
                [{"prompt_token_ids": ask.prompt_ids} for ask in some],
                [ask.params for ask in some],
                priority=[ask.priority for ask in some],
                use_tqdm=False,
            )
            answers += [answer_of(output) for output in outputs]
        passes.append(answers)
    stats = llm._parts.loop.stats
    llm._parts.loop.scheduler.check()
    llm.close()
    _check_ends(passes)
    counters = {"hits": stats.prefix_hits, "preemptions": stats.num_preemptions, "faults": len(faults)}
    return Played(passes, {name: counters[name] for name in condition.expects})


def _plant_faults(llm: LLM, every: int) -> list[int]:
    """Each so-many-th step of several rows raises from now on; returns their numbers, to which more will come."""
    executor = llm._parts.executor
    compute = executor.run
    steps = count()
    faults: list[int] = []

    def compute_or_raise(plan: StepPlan) -> StepResult:
        if len(plan.chunks) > 1 and next(steps) % every == every - 1:
            faults.append(plan.step)
            raise ArithmeticError("A fault that a test planted.")
        return compute(plan)

    executor.run = compute_or_raise  # type: ignore[method-assign]
    return faults


def _play_elsewhere(part: Part) -> Played:
    # Threads that spin while they wait would take turns on a machine with fewer cores.
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive", **({"QUIRE_ISA": part.isa} if part.isa else {})}
    command = (sys.executable, "-m", "tests.same.play")
    done = subprocess.run(
        command, input=msgspec.json.encode(part), capture_output=True, env=environment, cwd=_ROOT, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{part} failed in a process of its own:\n{done.stderr.decode()}")
    return msgspec.msgpack.decode(done.stdout, type=Played)


async def _play_killed(part: Part, condition: Condition) -> Played:
    """Through the supervisor, whose engine is killed when a quarter of the requests has ended."""
    asked, _, decided = _prepared(part, condition)
    text = text_parts(decided.text)
    client = Supervisor(engine_config(decided))
    num_ended = 0

    async def follow(number: int, ask: Ask) -> Answer:
        nonlocal num_ended
        admitted = text.validator.admit(
            RequestId(str(number)), ask.prompt_ids, ask.params, priority=ask.priority, clamps_max_tokens=True
        )
        stream = RequestStream(admitted, None, text.tokenizer)
        async for event in events_of(client, admitted.request):
            piece = stream.feed(event) if isinstance(event, Delta) else None
            if piece is not None and piece.stopped_by_text:
                client.cancel(admitted.request.id, piece.index)
        num_ended += 1
        if num_ended == len(asked) // 4:
            assert client._process is not None
            client._process.kill()
        return answer_of(stream.output())

    await client.start()
    try:
        answers = await asyncio.gather(*(follow(number, ask) for number, ask in enumerate(asked)))
    finally:
        await client.stop()
    _check_ends([answers])
    return Played([answers], {"restarts": client.num_restarts})


def _cpu_s() -> float:
    """CPU time of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _check_ends(passes: Sequence[Sequence[Answer]]) -> None:
    ends = {sample.finish_reason for answers in passes for answer in answers for sample in answer.samples}
    assert ends <= {"stop", "length"}, f"requests ended with {ends}"


if __name__ == "__main__":
    asked_part = msgspec.json.decode(sys.stdin.buffer.read(), type=Part)
    sys.stdout.buffer.write(msgspec.msgpack.encode(play(asked_part, is_fresh=True)))
