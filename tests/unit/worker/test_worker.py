"""Plans by hand through a whole worker: a tiny model with dummy weights, real KV blocks, real attention."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from quire import plugins
from quire.config.card import read_card
from quire.config.decided import KVGroup, KVLayout, WorkerConfig
from quire.config.kv_layout import lay_out
from quire.core.ids import Row
from quire.core.request import Sampling
from quire.core.step import NewRow, StepPlan, StepResult, TokenLogprobs
from quire.errors import CheckpointError, ConfigError, DoesNotFit
from quire.worker.main import open_worker
from quire.worker.worker import Worker
from tests.unit.sampling.drawing import worker_config
from tests.unit.worker.stepping import GREEDY, added, chunk, copy

LAYOUT = KVLayout(
    block_size=4, groups=(KVGroup(None, (0, 1)), KVGroup(None, (2, 3))), layers_per_block=2, bytes_per_block=0
)
PROMPT = tuple(int(i) for i in np.random.default_rng(3).integers(0, 300, 21))
WITH_LOGPROBS = replace(GREEDY, num_logprobs=3)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> WorkerConfig:
    folder = tmp_path_factory.mktemp("tiny-llama")
    (folder / "config.json").write_text(json.dumps(plugins.load("models", "llama").tiny_config()))
    return worker_config(model_path=str(folder), layout=LAYOUT, num_blocks=256, num_threads=1, seed=7)


@pytest.fixture(scope="module")
def opened(config: WorkerConfig) -> Iterator[Worker]:
    before = torch.get_num_threads()
    worker = open_worker(config)
    yield worker
    worker.close()
    torch.set_num_threads(before)


class Drawn:
    """What a sequence drew."""

    def __init__(self) -> None:
        self.token_ids: tuple[int, ...] = ()
        self.logprobs: tuple[TokenLogprobs, ...] = ()


class Steps:
    """Numbers the plans of all tests on, as an engine does."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._step = 0

    def run(self, **plan: object) -> StepResult:
        self._step += 1
        return self._worker.run(replace(StepPlan(self._step), **plan))

    def free(self, *rows: int) -> None:
        self.run(removed=tuple(Row(row) for row in rows))

    def continued(
        self, row: int, new: NewRow, chunks: tuple[int, ...], num_tokens: int, first_block: int, num_groups: int = 2
    ) -> Drawn:
        """Compute the known tokens in chunks of these sizes, then decode until ``num_tokens`` are drawn; free the
        row.
        """
        blocks = list(range(first_block, first_block + 16))
        start, drawn = 0, Drawn()
        sizes = [*chunks, *[1] * (num_tokens - 1)]
        for number, size in enumerate(sizes):
            held, needed = -(-start // 4), -(-(start + size) // 4)
            news = blocks[held:needed]
            is_last = number >= len(chunks) - 1
            tables = [[block + 100 * group for block in news] for group in range(num_groups)]
            one = chunk(row, start, size, *tables, samples=is_last)
            result = self.run(added=(new,) if number == 0 else (), chunks=(one,)).rows[0]
            assert not result.error
            drawn.token_ids += result.token_ids
            drawn.logprobs += result.logprobs
            start += size
        self.free(row)
        return drawn


def close(found: tuple[TokenLogprobs, ...], expected: tuple[TokenLogprobs, ...]) -> bool:
    """Equal up to rounding in float32; the ids must be the same."""
    return [at.ids for at in found] == [at.ids for at in expected] and all(
        np.allclose(a.logprobs, b.logprobs, atol=1e-5) for a, b in zip(found, expected, strict=True)
    )


@pytest.fixture
def steps(opened: Worker) -> Steps:
    opened.run(StepPlan(-100, removed=tuple(Row(row) for row in range(8))))
    return Steps(opened)


def fresh(steps: Steps, sampling: Sampling = WITH_LOGPROBS, num_tokens: int = 8) -> Drawn:
    return steps.continued(0, added(0, PROMPT, sampling), (21,), num_tokens, 0)


def test_the_report_counts_parameters_weights_and_kv(opened: Worker) -> None:
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 64 * 96 * 3 + 2 * 64
    assert opened.report.num_parameters == 2 * 300 * 64 + 4 * layer + 64
    assert opened.report.weight_bytes == 4 * opened.report.num_parameters
    assert opened.report.kv_bytes == 2 * 2 * 256 * 4 * 32 * 4
    assert opened.report.load_time_s > 0


def test_the_warm_up_leaves_no_row_behind(config: WorkerConfig) -> None:
    runner = open_worker(config)._runner
    assert runner is not None and not runner.rows.num_known_host.any()
    assert not runner.rows.num_blocks_host.any()


@pytest.mark.parametrize(
    "changes", [{"num_blocks": 2}, {"max_num_batched_tokens": 1}, {"max_model_len": 2}, {"num_blocks": 1}]
)
def test_the_smallest_worker_opens(config: WorkerConfig, changes: dict[str, object]) -> None:
    open_worker(replace(config, **changes)).close()


@pytest.mark.parametrize("chunks", [(20, 1), (1, 20), (8, 8, 5), (3, 7, 11), (1,) * 21])
def test_a_chunked_prefill_gives_what_a_whole_one_gives(steps: Steps, chunks: tuple[int, ...]) -> None:
    whole = fresh(steps)
    parts = steps.continued(5, added(5, PROMPT, WITH_LOGPROBS), chunks, 8, 20)
    assert parts.token_ids == whole.token_ids
    assert close(parts.logprobs, whole.logprobs)


@pytest.mark.parametrize(
    "sampling", [WITH_LOGPROBS, Sampling(seed=5, num_logprobs=3, temperature=2.0)], ids=["greedy", "random"]
)
def test_a_preempted_sequence_continues_with_the_same_tokens(steps: Steps, sampling: Sampling) -> None:
    whole = fresh(steps, sampling)
    begun = steps.continued(1, added(1, PROMPT, sampling), (21,), 3, 8)
    back = added(2, PROMPT + begun.token_ids, sampling, num_prompt=len(PROMPT))
    rest = steps.continued(2, back, (24,), 5, 30)
    assert begun.token_ids + rest.token_ids == whole.token_ids
    assert close(begun.logprobs + rest.logprobs, whole.logprobs)


def test_a_reused_row_behaves_as_a_fresh_one(steps: Steps) -> None:
    whole = fresh(steps)
    loud = Sampling(
        seed=9, temperature=1.5, top_k=5, allowed_token_ids=(1, 2, 3), repetition_penalty=3.0, num_logprobs=2
    )
    steps.run(added=(added(0, range(40), loud),), chunks=(chunk(0, 0, 40, range(40, 50), range(50, 60)),))
    again = steps.continued(0, added(0, PROMPT, WITH_LOGPROBS), (21,), 8, 40)
    assert (again.token_ids, close(again.logprobs, whole.logprobs)) == (whole.token_ids, True)


def test_rows_beside_each_other_draw_what_each_draws_alone(steps: Steps) -> None:
    samplings = [WITH_LOGPROBS, Sampling(seed=4, num_logprobs=3), Sampling(seed=5, top_p=0.8, num_logprobs=3)]
    alone = [fresh(steps, sampling, 4) for sampling in samplings]
    rows = tuple(added(i, PROMPT, sampling) for i, sampling in enumerate(samplings))
    tables = [list(range(8 * i, 8 * i + 8)) for i in range(3)]
    prefill = [chunk(i, 0, 21, tables[i], [b + 32 for b in tables[i]]) for i in range(3)]
    results = [steps.run(added=rows, chunks=tuple(prefill))]
    for number in range(3):
        results.append(steps.run(chunks=tuple(chunk(i, 21 + number, 1, [], []) for i in (2, 0, 1))))
    for i, expected in enumerate(alone):
        own = [row for result in results for row in result.rows if row.row == i]
        assert tuple(row.token_ids[0] for row in own) == expected.token_ids
        assert close(tuple(row.logprobs[0] for row in own), expected.logprobs)


def test_a_fork_reads_shared_blocks_and_the_copy_of_the_last_one(steps: Steps) -> None:
    """The parent has computed all but its last token: five full blocks are shared and the sixth, of one token, is
    copied.
    """
    prompt = (*PROMPT, 17)
    whole = steps.continued(0, added(0, prompt, WITH_LOGPROBS), (22,), 4, 0)
    parent = added(0, prompt, WITH_LOGPROBS)
    steps.run(added=(parent,), chunks=(chunk(0, 0, 21, range(6), range(10, 16), samples=False),))
    # The parent's own last block is spoiled afterwards: only the copy may be read.
    fork = chunk(1, 21, 1, [0, 1, 2, 3, 4, 20], [10, 11, 12, 13, 14, 21])
    first = steps.run(added=(added(1, prompt, WITH_LOGPROBS),), copies=(copy(5, 20), copy(15, 21)), chunks=(fork,))
    spoiler = added(2, (1, 2), WITH_LOGPROBS)
    steps.run(removed=(Row(0),), added=(spoiler,), chunks=(chunk(2, 0, 2, [5], [15]),))
    found, logprobs = first.rows[0].token_ids, first.rows[0].logprobs
    for start in (22, 23, 24):
        news = ([22], [23]) if start == 24 else ([], [])
        row = steps.run(chunks=(chunk(1, start, 1, *news),)).rows[0]
        found, logprobs = found + row.token_ids, logprobs + row.logprobs
    assert (found, close(logprobs, whole.logprobs)) == (whole.token_ids, True)


def test_prompt_logprobs_are_those_of_a_token_drawn_behind_each_prefix(steps: Steps) -> None:
    asked = replace(GREEDY, num_logprobs=300, num_prompt_logprobs=300)
    plan = chunk(0, 0, 21, range(6), range(10, 16), prompt_logprobs=True)
    found = steps.run(added=(added(0, PROMPT, asked),), chunks=(plan,)).rows[0].prompt_logprobs
    assert len(found) == 20
    steps.free(0)
    for position, at in enumerate(found):
        behind = steps.continued(1, added(1, PROMPT[: position + 1], asked), (position + 1,), 1, 20).logprobs[0]
        expected = dict(zip(behind.ids, behind.logprobs, strict=True))
        assert at.ids[0] == PROMPT[position + 1]
        assert np.allclose(at.logprobs, [expected[i] for i in at.ids], atol=1e-5)
        assert np.exp(at.logprobs[1:]).sum() == pytest.approx(1.0, abs=1e-4)


def test_a_closed_worker_says_so(config: WorkerConfig) -> None:
    worker = open_worker(config)
    worker.close()
    worker.close()
    with pytest.raises(RuntimeError, match="closed"):
        worker.run(StepPlan(1))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"attention_backend": "no_such"}, ConfigError),
        ({"logits_processors": ("no_such_module:f",)}, ConfigError),
        ({"num_blocks": 1 << 40}, DoesNotFit),
        ({"model_path": "/no/such/folder"}, CheckpointError),
    ],
    ids=["backend", "processor", "memory", "folder"],
)
def test_a_worker_that_cannot_be_had_is_refused_with_a_reason(
    config: WorkerConfig, changes: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        open_worker(replace(config, **changes))


def test_threads_are_those_of_the_configuration(config: WorkerConfig) -> None:
    before = torch.get_num_threads()
    try:
        open_worker(replace(config, num_threads=2)).close()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("family", ["gemma3_text", "gemma2"])
def test_layers_with_windows_have_block_tables_of_their_own(tmp_path: Path, family: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(plugins.load("models", family).tiny_config()))
    card = read_card(tmp_path)
    layout = lay_out(card.layer_windows, block_size=4, bytes_per_token_layer=8 * card.num_kv_heads * card.head_size)
    assert len(layout.groups) > 1
    config = worker_config(model_path=str(tmp_path), layout=layout, num_blocks=400, num_threads=1)
    steps, num_groups = Steps(open_worker(config)), len(layout.groups)
    whole = steps.continued(0, added(0, PROMPT, WITH_LOGPROBS), (21,), 8, 0, num_groups)
    parts = steps.continued(1, added(1, PROMPT, WITH_LOGPROBS), (2, 9, 10), 8, 50, num_groups)
    assert (parts.token_ids, close(parts.logprobs, whole.logprobs)) == (whole.token_ids, True)


def test_the_card_and_the_dummy_weights_are_the_same_each_time(config: WorkerConfig) -> None:
    assert read_card(Path(config.model_path)).num_layers == 4
    first, second, other = (fresh(Steps(open_worker(replace(config, seed=s)))).logprobs for s in (7, 7, 8))
    assert first == second != other
