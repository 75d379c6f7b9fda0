from __future__ import annotations

import torch
from torch import Tensor

from quire.layers.batch import Batch, KVLayer, RowSpans


class Recording:
    """A backend that says what it was asked."""

    def __init__(self) -> None:
        self.planned: list[tuple[int, int | None]] = []
        self.attended = 0

    def write(self, k_TGD: Tensor, v_TGD: Tensor, kv: KVLayer, slots_T: Tensor) -> None:
        kv.keys.view(-1, 1, 2)[slots_T] = k_TGD

    def plan(self, rows: RowSpans, table_RB: Tensor, kv: KVLayer, *, window: int | None) -> Recording:
        self.planned.append((int(table_RB[0, 0]), window))
        return self

    def attend(self, q_THD: Tensor, kv: KVLayer, *, scale: float, soft_cap: float | None) -> Tensor:
        self.attended += 1
        return q_THD * scale


def test_a_plan_is_made_once_for_each_group_and_window_of_a_step() -> None:
    backend = Recording()
    kv = tuple(KVLayer(torch.zeros(4, 2, 1, 2), torch.zeros(4, 2, 1, 2)) for _ in range(4))
    batch = Batch(
        ids_T=torch.tensor([7]),
        positions_T=torch.tensor([0]),
        rows=RowSpans((0, 1), (1,)),
        slots=(torch.tensor([2]), torch.tensor([4])),
        tables=(torch.tensor([[1]], dtype=torch.int32), torch.tensor([[2]], dtype=torch.int32)),
        kv=kv,
        group_of_layer=(0, 1, 1, 0),
        backend=backend,
    )
    x = torch.ones(1, 1, 2)
    for layer, window in enumerate((None, 8, 8, None)):
        batch.attend(layer, x, x, x, scale=1.0, window=window, soft_cap=None)
    assert backend.planned == [(1, None), (2, 8)]
    assert backend.attended == 4
    assert [int(layer.keys.flatten(0, 1)[:, 0, 0].argmax()) for layer in kv] == [2, 4, 4, 2]


def test_spans_count_each_rows_queries() -> None:
    rows = RowSpans((0, 3, 4), (10, 7))
    assert rows.num_rows == 2
    assert [rows.num_queries(row) for row in range(2)] == [3, 1]
