"""Drawing by the kernel against drawing by the stages, on every set of instructions that this processor has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from quire.core.request import Sampling
from quire.core.step import NewRow
from quire.errors import ConfigError
from quire.ops.native import find_native, native
from quire.sampling.chance import Chance, StagedChance
from quire.sampling.noise import uniforms
from quire.sampling.sampler import AFTER_THE_PICK
from tests.unit.sampling.drawing import draw_of, new_row, random_logits, worker_config

if find_native() is None:
    pytest.skip("Quire was installed without its native kernels", allow_module_level=True)

from quire.sampling.chance_native import NativeChance


@pytest.fixture(params=["portable", "avx2", "avx512", "avx512bf16"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native().isa()
    try:
        native().use_isa(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    yield request.param
    native().use_isa(before)


def staged() -> StagedChance:
    return StagedChance(tuple(stage(worker_config()) for stage in AFTER_THE_PICK))


def drawn(chance: Chance, rows: list[NewRow], logits_RV: Tensor, lines: list[int] | None = None) -> list[int]:
    for new in rows:
        chance.enter(new)
    return chance.draw(logits_RV, lines or list(range(len(rows))), [draw_of(new) for new in rows])


def any_sampling(chance: np.random.Generator, vocab_size: int) -> Sampling:
    return Sampling(
        seed=int(chance.integers(2**63)),
        temperature=float(chance.choice([1.0, 0.7, 0.1, 2.0, 1e-20, 1e-40])),
        top_k=int(chance.choice([0, 0, 1, 2, 50, vocab_size, vocab_size // 2 + 1, 10**9])),
        top_p=float(chance.choice([1.0, 1.0, 0.9, 0.5, 0.95, 1e-9, 0.999])),
        min_p=float(chance.choice([0.0, 0.0, 0.05, 0.5, 1.0, 1e-4])),
    )


def any_logits(chance: np.random.Generator, num_rows: int, vocab_size: int) -> Tensor:
    """Smooth, with many equal ones, or with forbidden ones."""
    logits = chance.normal(size=(num_rows, vocab_size)) * chance.choice([0.3, 2.0, 5.0, 12.0])
    kind = chance.integers(4)
    if kind == 1:
        logits = np.round(logits)
    if kind == 2:
        logits[:, 1:][:, chance.random(vocab_size - 1) < 0.3] = -np.inf
    if kind == 3:
        logits = np.round(logits * 4) / 4
    return torch.from_numpy(logits.astype(np.float32))


def test_tokens_are_those_of_the_stages(isa: str) -> None:
    chance, by_stages, by_kernel = np.random.default_rng(5), staged(), NativeChance(4)
    num_draws = num_different = 0
    for _ in range(60):
        vocab_size = int(chance.choice([1, 2, 17, 63, 64, 65, 300, 1000, 5000]))
        logits = any_logits(chance, 8, vocab_size)
        rows = [
            new_row(i, any_sampling(chance, vocab_size), (1,) * int(chance.integers(1, 9)), 1, int(chance.integers(4)))
            for i in range(8)
        ]
        expected, found = drawn(by_stages, rows, logits), drawn(by_kernel, rows, logits)
        num_draws += len(rows)
        num_different += sum(a != b for a, b in zip(expected, found, strict=True))
    assert num_different <= num_draws // 200, "exp is rounded otherwise, which moves a border now and then"


@pytest.mark.parametrize("levels", [1, 3, 40])
@pytest.mark.parametrize("size", [1, 2, 17, 90])
def test_exactly_the_tokens_that_the_stages_keep_are_drawn(isa: str, levels: int, size: int) -> None:
    chance = np.random.default_rng(size + levels)
    for _ in range(4):
        logits = torch.from_numpy(chance.integers(0, levels, size).astype(np.float32)) * (2.0 / levels)
        top_k, top_p = int(chance.integers(1, size + 2)), float(np.round(chance.uniform(0.01, 0.999), 3)) + 0.000137
        for asked in (dict(top_k=top_k), dict(top_p=top_p), dict(top_k=top_k, top_p=top_p), dict(min_p=0.3)):
            rows = [new_row(i, Sampling(seed=i, **asked)) for i in range(40 * size)]  # type: ignore[arg-type]
            expected = drawn(staged(), rows, logits.expand(len(rows), -1).contiguous())
            found = drawn(NativeChance(len(rows)), rows, logits.expand(len(rows), -1).contiguous())
            assert found == expected


def test_the_ends_of_the_unit_interval_never_fall_on_a_forbidden_token(isa: str) -> None:
    logits = random_logits(300, 501)
    logits[:, 400:] = -torch.inf
    logits[:, :3] = -torch.inf
    rows = [new_row(i, Sampling(seed=i, temperature=5.0)) for i in range(300)]
    tokens = drawn(NativeChance(300), rows, logits)
    assert all(3 <= token < 400 for token in tokens)


def test_a_row_s_token_is_the_same_alone_in_any_line_and_on_any_number_of_threads() -> None:
    chance = np.random.default_rng(8)
    logits = any_logits(chance, 40, 20_000)
    rows = [new_row(i, any_sampling(chance, 20_000)) for i in range(40)]
    whole = drawn(NativeChance(40), rows, logits)
    before = torch.get_num_threads()
    try:
        for num_threads in (1, 2, 3, 7):
            torch.set_num_threads(num_threads)
            assert drawn(NativeChance(40), rows, logits) == whole
            assert drawn(NativeChance(1), rows[::-1], logits.flip(0)) == whole[::-1]
            assert [drawn(NativeChance(1), [rows[i]], logits, [i])[0] for i in range(40)] == whole
    finally:
        torch.set_num_threads(before)


def test_the_numbers_are_those_of_the_documented_hash() -> None:
    for triple in [(0, 0, 0), (1, 2, 3), (2**63 - 1, 0, 131072), (-1, 5, 7), (2**64 - 1, 5, 7), (2**53, 127, 1)]:
        assert native().uniform(*triple) == uniforms(*([number] for number in triple))[0]


def test_logits_that_the_kernel_would_misread_are_refused() -> None:
    row = new_row(0, Sampling(seed=0))
    for bad in (torch.zeros(1, 8, dtype=torch.bfloat16), torch.zeros(8, 2).t()):
        with pytest.raises(ConfigError, match="bound to contiguous"):
            drawn(NativeChance(1), [row], bad)
