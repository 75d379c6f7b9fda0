from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from quire.layers.batch import Batch, RowSpans
from quire.ops.activation_native import NativeGate
from quire.ops.native import find_native
from quire.ops.norm_native import NativeNorm
from quire.worker.program import Unrecordable, placed, record
from quire.worker.program_memory import Arena, NoPlace
from tests.unit.worker.stepping import NoBackend

pytestmark = pytest.mark.skipif(find_native() is None, reason="Quire was installed without its native kernels")


def batch() -> Batch:
    ids_T = torch.arange(3)
    return Batch(ids_T, ids_T, RowSpans((0, 1, 2, 3), (1, 1, 1)), (), (), (), (), NoBackend())  # type: ignore[arg-type]


def test_a_program_computes_from_what_its_inputs_hold_when_it_runs() -> None:
    x_TN = torch.randn(3, 64)
    norm, gate = NativeNorm(torch.linspace(0.5, 2.0, 64), 1e-6, plus_one=False), NativeGate("silu", torch.float32)

    def compute(_: Batch) -> tuple[Tensor, ...]:
        return (gate(norm(x_TN, None)),)

    program = record(compute, batch(), Arena(1 << 16).places())
    assert program.num_calls == 2 and program.num_bytes > 0
    assert torch.equal(program.results[0], compute(batch())[0])
    before = program.results[0].clone()
    x_TN.copy_(torch.randn(3, 64))
    assert torch.equal(program.run()[0], compute(batch())[0])
    assert not torch.equal(program.results[0], before)


def test_what_is_no_longer_used_gives_its_place_to_what_comes_next() -> None:
    x_TN = torch.randn(4, 64)
    norm = NativeNorm(torch.ones(64), 1e-6, plus_one=False)
    arena = Arena(1 << 20)
    depths = (2, 40)
    used = []
    for depth in depths:

        def compute(_: Batch, depth: int = depth) -> tuple[Tensor, ...]:
            y_TN = x_TN
            for _ in range(depth):
                y_TN = norm(y_TN, None)
            return (y_TN,)

        program = record(compute, batch(), arena.places())
        assert program.num_calls == depth
        assert torch.equal(program.run()[0], compute(batch())[0])
        used.append(arena.used_bytes)
    assert used[0] == used[1] == 2 * x_TN.nbytes


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x + 1,
        lambda x: x.clone(),
        lambda x: x.t().contiguous(),
        lambda x: x.t().reshape(-1),
        lambda x: x.sum().item(),
    ],
    ids=["sum", "copy", "contiguous", "reshape", "item"],
)
def test_what_torch_computes_itself_is_refused_and_recording_ends(operation: Callable[[Tensor], object]) -> None:
    x_TN = torch.randn(3, 64)

    def compute(_: Batch) -> tuple[Tensor, ...]:
        operation(x_TN)
        return (x_TN,)

    for _ in range(2):
        with pytest.raises(Unrecordable, match="torch computes aten"):
            record(compute, batch(), Arena(1 << 16).places())


def test_views_are_let_through_even_under_names_that_may_copy() -> None:
    x_TN = torch.randn(3, 64)

    def compute(_: Batch) -> tuple[Tensor, ...]:
        first, _ = x_TN.reshape(3, 2, 32).contiguous().split_with_sizes((1, 1), 1)
        return (first.view(3, 32)[1:].unsqueeze(0).narrow(1, 0, 1),)

    program = record(compute, batch(), Arena(1 << 16).places())
    assert program.num_calls == 0
    assert torch.equal(program.run()[0], x_TN[1:2, :32].unsqueeze(0))


def test_an_arena_that_is_too_small_for_a_program_is_no_place() -> None:
    norm = NativeNorm(torch.ones(64), 1e-6, plus_one=False)
    x_TN = torch.randn(3, 64)
    with pytest.raises(NoPlace, match="of 512 reserved"):
        record(lambda _: (norm(x_TN, None),), batch(), Arena(512).places())


def test_placed_computes_anything_in_the_arena_while_there_is_room() -> None:
    arena = Arena(4096)
    norm = NativeNorm(torch.ones(64), 1e-6, plus_one=False)
    x_TN = torch.randn(4, 64)
    assert torch.equal(placed(lambda x: norm(x, None), x_TN, arena.places()), norm(x_TN, None))
    assert arena.used_bytes == x_TN.nbytes
    large = torch.randn(100, 64)
    assert torch.equal(placed(lambda x: norm(x, None) + 1, large, arena.places()), norm(large, None) + 1)
    assert arena.used_bytes == x_TN.nbytes
