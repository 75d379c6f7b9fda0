"""Recorded steps against eager ones: the same numbers to the last bit, whatever a program meets between two runs."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from quire import plugins
from quire.config.card import read_card
from quire.config.decided import WorkerConfig
from quire.config.kv_layout import lay_out
from quire.core.ids import Row
from quire.core.request import Sampling
from quire.core.step import Chunk, StepPlan, StepResult
from quire.ops.native import find_native, native
from quire.worker import launch, main
from quire.worker.launch import EagerLauncher, RecordedLauncher
from quire.worker.worker import Worker
from tests.unit.sampling.drawing import worker_config
from tests.unit.worker.stepping import added

pytestmark = pytest.mark.skipif(find_native() is None, reason="Quire was installed without its native kernels")

FAMILIES = tuple(plugins.names("models"))
BLOCK = 4


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@dataclass
class Sequences:
    """Sequences in rows of a worker, moved on by plans that chance made: the same ones for the same seed."""

    worker: Worker
    num_groups: int
    chance: random.Random = field(default_factory=lambda: random.Random(5))
    steps: int = 0
    next_block: int = 0
    known: dict[int, int] = field(default_factory=dict)
    results: list[StepResult] = field(default_factory=list)

    def start(self, row: int, num_tokens: int, sampling: Sampling) -> None:
        tokens = [self.chance.randrange(300) for _ in range(num_tokens)]
        new = added(row, tokens, sampling)
        self._run(StepPlan(self.steps, added=(new,), chunks=(self._chunk(row, 0, num_tokens),)))
        self.known[row] = num_tokens + 1

    def start_in_parts(self, row: int, num_tokens: int, sampling: Sampling, beside: list[int]) -> None:
        """All but the last token at first, that one beside rows that decode; with logprobs of the prompt."""
        tokens = [self.chance.randrange(300) for _ in range(num_tokens)]
        first = replace(self._chunk(row, 0, num_tokens - 2), samples=False, prompt_logprobs=True)
        self._run(StepPlan(self.steps, added=(added(row, tokens, sampling),), chunks=(first,)))
        for start in (num_tokens - 2, num_tokens - 1):
            last = self._chunk(row, start, 1)
            part = replace(last, samples=start == num_tokens - 1, prompt_logprobs=True)
            decodes = tuple(self._chunk(other, self.known[other] - 1, 1) for other in beside)
            self._run(StepPlan(self.steps, chunks=(*decodes, part)))
            for other in beside:
                self.known[other] += 1
        self.known[row] = num_tokens + 1

    def start_before(self, row: int, sampling: Sampling, beside: list[int]) -> None:
        """A prompt of two tokens, one a step, the first of which nobody wants anything of, before rows that decode."""
        tokens = [self.chance.randrange(300) for _ in range(2)]
        for start in (0, 1):
            part = replace(self._chunk(row, start, 1), samples=start == 1)
            decodes = tuple(self._chunk(other, self.known[other] - 1, 1) for other in beside)
            new = (added(row, tokens, sampling),) if start == 0 else ()
            self._run(StepPlan(self.steps, added=new, chunks=(part, *decodes)))
            for other in beside:
                self.known[other] += 1
        self.known[row] = 3

    def decode(self, rows: list[int]) -> None:
        chunks = tuple(self._chunk(row, self.known[row] - 1, 1) for row in rows)
        self._run(StepPlan(self.steps, chunks=chunks))
        for row in rows:
            self.known[row] += 1

    def end(self, row: int) -> None:
        del self.known[row]
        self._run(StepPlan(self.steps, removed=(Row(row),)))

    def _chunk(self, row: int, start: int, num_tokens: int) -> Chunk:
        count = -(-(start + num_tokens) // BLOCK) - -(-start // BLOCK)
        blocks = tuple(
            tuple(range(self.next_block + g * count, self.next_block + (g + 1) * count)) for g in range(self.num_groups)
        )
        self.next_block += count * self.num_groups
        return Chunk(Row(row), start, num_tokens, blocks, samples=True)  # type: ignore[arg-type]

    def _run(self, plan: StepPlan) -> None:
        self.results.append(self.worker.run(plan))
        self.steps += 1


Open = Callable[..., tuple[Sequences, EagerLauncher | RecordedLauncher]]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a worker of a family and says how it launches."""

    def open_one(family: str, **changes: object) -> tuple[Sequences, EagerLauncher | RecordedLauncher]:
        made: list[EagerLauncher | RecordedLauncher] = []

        def launcher_for(*args: object) -> EagerLauncher | RecordedLauncher:
            made.append(launch.launcher_for(*args))  # type: ignore[arg-type]
            return made[-1]

        monkeypatch.setattr(main, "launcher_for", launcher_for)
        folder = tmp_path / family
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(plugins.load("models", family).tiny_config()))
        layout = lay_out(read_card(folder).layer_windows, block_size=BLOCK, bytes_per_token_layer=4)
        options = {
            "attention_backend": "cpu",
            "linear_backend": "native",
            "num_threads": 1,
            "num_blocks": 512,
            **changes,
        }
        config: WorkerConfig = worker_config(model_path=str(folder), layout=layout, seed=3, **options)
        return Sequences(main.open_worker(config), len(layout.groups)), made[0]

    return open_one


def live(sequences: Sequences) -> list[StepResult]:
    """Rows come and go, in changing order and number, across block boundaries, one with logprobs and one by chance."""
    chance = random.Random(8)
    for row in range(6):
        sampling = Sampling(seed=row, temperature=float(row % 2), num_logprobs=2 * (row % 3) - 1)
        sequences.start(row, chance.randrange(1, 12), sampling)
    for step in range(20):
        rows = chance.sample(sorted(sequences.known), chance.randrange(1, len(sequences.known) + 1))
        sequences.decode(rows)
        if step == 8:
            sequences.end(2)
        torch.set_num_threads(2 if 8 <= step < 11 else 1)
        if step == 16:
            sequences.start_in_parts(2, 5, Sampling(seed=2, num_prompt_logprobs=2), beside=[0, 3])
        if step == 17:
            sequences.end(2)
            sequences.start_before(2, Sampling(seed=2), beside=[0, 3])
    return sequences.results


@pytest.mark.parametrize(
    ("family", "dtype"), [*((family, "bfloat16") for family in FAMILIES), ("qwen3", "float32"), ("gemma2", "float16")]
)
def test_recorded_steps_give_what_eager_ones_give(family: str, dtype: str, opened: Open) -> None:
    recorded, launcher = opened(family, dtype=dtype)
    found = live(recorded)
    assert isinstance(launcher, RecordedLauncher) and launcher.num_programs > 2
    eager, other = opened(family, dtype=dtype, enforce_eager=True)
    assert isinstance(other, EagerLauncher)
    assert found == live(eager)
    assert launcher.num_programs > 2, "a step that is none is no reason to record nothing any more"
    assert not any(row.error for result in found for row in result.rows)


def test_a_number_of_rows_is_recorded_once_and_again_when_threads_or_instructions_change(opened: Open) -> None:
    sequences, launcher = opened("llama")
    assert isinstance(launcher, RecordedLauncher)
    for row in range(3):
        sequences.start(row, 3, Sampling(seed=row))
    at_start = launcher.num_programs
    sequences.decode([0, 1, 2])
    sequences.decode([2, 0, 1])
    assert launcher.num_programs == at_start + 1
    torch.set_num_threads(2)
    sequences.decode([0, 1])
    assert launcher.num_programs == 1
    before = native().isa()
    native().use_isa("portable")
    try:
        sequences.decode([0])
    finally:
        native().use_isa(before)
    assert launcher.num_programs == 1
    assert 0 < launcher.num_bytes < 2**20


def test_a_model_that_torch_computes_in_part_runs_eagerly_and_says_so_once(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=launch.__name__)
    sequences, launcher = opened("llama", attention_backend="torch_sdpa")
    assert isinstance(launcher, RecordedLauncher)
    found = live(sequences)
    eager, _ = opened("llama", attention_backend="torch_sdpa", enforce_eager=True)
    assert found == live(eager)
    assert launcher.num_programs == 0
    assert ["torch computes aten" in record.getMessage() for record in caplog.records] == [True]


def test_steps_that_need_more_memory_than_is_reserved_run_eagerly(
    opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=launch.__name__)
    monkeypatch.setattr(launch, "_reserved_bytes", lambda *_: 8192)
    sequences, launcher = opened("llama")
    found = live(sequences)
    eager, _ = opened("llama", enforce_eager=True)
    assert found == live(eager)
    assert isinstance(launcher, RecordedLauncher) and launcher.num_programs > 0
    assert "rows or more run without recorded programs" in caplog.text


def test_the_oldest_programs_are_forgotten_where_calls_take_too_much_memory(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "MAX_PROGRAM_BYTES", 1)
    sequences, launcher = opened("llama")
    found = live(sequences)
    eager, _ = opened("llama", enforce_eager=True)
    assert found == live(eager)
    assert isinstance(launcher, RecordedLauncher) and launcher.num_programs == 1


def test_a_step_that_a_kernel_refuses_raises_and_may_be_run_again(opened: Open) -> None:
    sequences, launcher = opened("llama")
    for row in range(2):
        sequences.start(row, 3, Sampling(seed=row))
    sequences.decode([0, 1])
    assert isinstance(launcher, RecordedLauncher)
    program = launcher._programs[2]
    slots_T = program.held.slots[0]
    with torch.inference_mode():
        before = slots_T.clone()
        slots_T[1] = 10**6
        with pytest.raises(ValueError, match="Token 1 goes to slot 1000000"):
            launcher.forward(program.held)
        slots_T.copy_(before)
        found = launcher.forward(program.held).clone()
        assert torch.equal(launcher._model(program.held), found)


@pytest.mark.parametrize("family", ["qwen3", "gemma2"])
def test_long_steps_run_in_the_arena_and_give_the_same(
    family: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "MIN_PLACED_TOKENS", 2)
    sequences, launcher = opened(family)
    live(sequences)
    assert isinstance(launcher, RecordedLauncher)
    before = launcher.num_bytes
    sequences.start(7, 50, Sampling(seed=1, num_prompt_logprobs=1))
    assert launcher.num_bytes > before
    eager, _ = opened(family, enforce_eager=True)
    live(eager)
    eager.start(7, 50, Sampling(seed=1, num_prompt_logprobs=1))
    assert sequences.results == eager.results
