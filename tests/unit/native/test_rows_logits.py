"""Logprobs and penalties by the kernels against those by torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from quire.core.request import Sampling
from quire.ops.native import find_native, native
from quire.sampling.logprobs import logprobs_of_lines
from quire.sampling.stages import penalties
from tests.unit.sampling.drawing import draw_of, new_row, random_logits, worker_config

if find_native() is None:
    pytest.skip("Quire was installed without its native kernels", allow_module_level=True)

from quire.sampling.logprobs_native import NativeLogprobs


@pytest.fixture(params=["portable", "avx2", "avx512", "avx512bf16"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native().isa()
    try:
        native().use_isa(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    yield request.param
    native().use_isa(before)


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 700, 5000])
@pytest.mark.parametrize("is_coarse", [False, True])
def test_logprobs_ids_and_ranks_are_the_reference_s(isa: str, size: int, is_coarse: bool) -> None:
    logits = random_logits(6, size, scale=3.0)
    logits = logits.round() if is_coarse else logits
    chance = np.random.default_rng(size)
    for num_top in (-1, 0, 1, 5, 20, size, 10**6):
        lines = chance.integers(0, 6, 4).tolist()
        own = chance.integers(0, size, 4).tolist()
        for named in ((), tuple(chance.integers(0, size, 3).tolist())):
            found = NativeLogprobs()(logits, lines, own, num_top, named)
            expected = logprobs_of_lines(logits, lines, own, num_top, named)
            for one, other in zip(found, expected, strict=True):
                assert (one.ids, one.ranks) == (other.ids, other.ranks)
                assert np.allclose(one.logprobs, other.logprobs, rtol=1e-5, atol=1e-5)


def test_logprobs_are_the_same_alone_and_on_any_number_of_threads() -> None:
    logits = random_logits(20, 40_000)
    lines, own = list(range(20)), list(range(100, 120))
    whole = NativeLogprobs()(logits, lines, own, 5, ())
    before = torch.get_num_threads()
    try:
        for num_threads in (1, 2, 3, 7):
            torch.set_num_threads(num_threads)
            assert NativeLogprobs()(logits, lines, own, 5, ()) == whole
            assert [NativeLogprobs()(logits, [i], [own[i]], 5, ())[0] for i in lines] == whole
    finally:
        torch.set_num_threads(before)


def test_an_id_outside_the_vocabulary_is_an_error() -> None:
    for own, named in ((9, ()), (-1, ()), (0, (9,))):
        with pytest.raises(IndexError, match="vocabulary of 9"):
            NativeLogprobs()(torch.zeros(1, 9), [0], [own], 2, named)


@pytest.mark.parametrize(
    ("repetition", "frequency", "presence"),
    [(1.3, 0.0, 0.0), (0.7, 0.0, 0.0), (1.0, 0.4, 0.0), (1.0, 0.0, -0.6), (1.1, 0.3, 0.9), (50.0, -2.0, 2.0)],
)
def test_penalised_logits_are_bit_for_bit_the_reference_s(
    repetition: float, frequency: float, presence: float
) -> None:
    asked = Sampling(
        seed=0, repetition_penalty=repetition, frequency_penalty=frequency, presence_penalty=presence
    )
    stages = [penalties.Stage(worker_config(linear_backend=backend)) for backend in ("torch", "native")]
    chance = np.random.default_rng(3)
    for num_known, num_prompt in ((1, 1), (2, 1), (40, 0), (40, 17), (900, 300), (900, 900)):
        new = new_row(0, asked, chance.integers(0, 200, num_known).tolist(), num_prompt)
        logits = random_logits(1, 200)
        changed = []
        for stage in stages:
            stage.enter(new)
            changed.append(logits.clone())
            stage.apply(changed[-1], [draw_of(new)])
        assert torch.equal(*changed)


def test_a_token_that_no_vocabulary_has_is_an_error_and_changes_nothing() -> None:
    stage = penalties.Stage(worker_config(linear_backend="native"))
    logits = random_logits(1, 50)
    for bad in (50, -1):
        new = new_row(0, Sampling(seed=0, repetition_penalty=2.0), (3, bad, 3), 1)
        stage.enter(new)
        changed = logits.clone()
        with pytest.raises(IndexError, match="vocabulary of 50"):
            stage.apply(changed, [draw_of(new)])
        assert torch.equal(changed, logits)
