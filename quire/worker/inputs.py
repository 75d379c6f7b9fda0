"""From a plan and the row table to the tensors of one step.

Vectorised over tokens with numpy; Python loops run over rows at most.

Not here: what lives longer than a step (rows.py), the forward pass (launch.py).
Door: InputBuilder, StepInputs.
"""

# Shapes: T tokens of the step, R rows (chunks) of the step, B blocks of the longest row's table. ``_host`` arrays are
# numpy.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quire.config.decided import WorkerConfig
from quire.core.step import Chunk, StepPlan
from quire.layers.batch import AttentionBackend, Batch, KVLayer, RowSpans
from quire.sampling.draw import PromptSpan, Want
from quire.worker.rows import RowTable

_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StepInputs:
    """What the model computes, and what the sampler wants of it: one want for each chunk, in order."""

    batch: Batch
    wants: tuple[Want, ...]


class InputBuilder:
    """Builds the inputs of steps for one device, one pool of KV and one attention backend."""

    def __init__(self, config: WorkerConfig, kv: tuple[KVLayer, ...], backend: AttentionBackend) -> None:
        self._memory = _Memory(config)
        self._block_size = config.layout.block_size
        self._kv = kv
        self._backend = backend
        groups = {layer: number for number, group in enumerate(config.layout.groups) for layer in group.layers}
        self._group_of_layer = tuple(groups[layer] for layer in range(len(kv)))

    def build(self, plan: StepPlan, rows: RowTable) -> StepInputs:
        """The inputs of a plan that has chunks and has been applied to ``rows``.

        Raises: ValueError when a chunk computes tokens that are not known or have no block.
        """
        chunks = plan.chunks
        row_R = np.array([chunk.row for chunk in chunks], dtype=np.int64)
        start_R = np.array([chunk.start for chunk in chunks], dtype=np.int64)
        num_R = np.array([chunk.num_tokens for chunk in chunks], dtype=np.int64)
        length_R = start_R + num_R
        _check(chunks, row_R, num_R, length_R, rows, self._block_size)
        ends_R = np.cumsum(num_R)
        lengths: list[int] = length_R.tolist()
        ends: list[int] = ends_R.tolist()
        row_T, position_T = row_R, start_R
        if ends[-1] > len(chunks):
            row_T = np.repeat(row_R, num_R)
            position_T = np.arange(ends[-1]) + np.repeat(start_R - ends_R + num_R, num_R)
        block_T, offset_T = np.divmod(position_T, self._block_size)
        width = -(-max(lengths) // self._block_size)
        memory = self._memory
        batch = Batch(
            ids_T=memory.ids.fill(rows.token_ids_host[row_T, position_T]),
            positions_T=memory.positions.fill(position_T),
            rows=RowSpans((0, *ends), tuple(lengths), memory.numbers.fill(np.concatenate(([0], ends_R, length_R)))),
            slots=tuple(
                place.fill(table_host[row_T, block_T] * np.int64(self._block_size) + offset_T)
                for place, table_host in zip(memory.slots, rows.tables_host, strict=True)
            ),
            tables=tuple(
                place.fill(table_host[row_R, :width])
                for place, table_host in zip(memory.tables, rows.tables_host, strict=True)
            ),
            kv=self._kv,
            group_of_layer=self._group_of_layer,
            backend=self._backend,
        )
        if ends[-1] == len(chunks) and all([chunk.samples for chunk in chunks]):
            wants = [Want(chunk.row, place, rows.draw(chunk.row)) for place, chunk in enumerate(chunks)]
        else:
            wants, wanted_N = _wanted(chunks, ends, rows)
            if len(wanted_N) < ends[-1]:
                batch.wanted_N = memory.wanted.fill(wanted_N)
        return StepInputs(batch, tuple(wants))


class _Place:
    """Where a tensor of every step lies: on the host always at the same address, for kernels that were told it once.

    ``shape``: the largest one. Larger tensors than that lie elsewhere.
    """

    def __init__(self, shape: tuple[int, ...], dtype: type[np.int64] | type[np.int32], device: str) -> None:
        self._array_host = np.zeros(shape, dtype=dtype)
        self._device = torch.device(device)
        self._is_host = self._device.type == "cpu"

    def fill(self, array_host: npt.NDArray[np.int64] | npt.NDArray[np.int32]) -> Tensor:
        """The numbers as a tensor on the device: on the host a view, until the next ones come."""
        place_host = self._array_host[tuple(map(slice, array_host.shape))]
        if place_host.shape != array_host.shape:
            place_host = np.zeros(array_host.shape, self._array_host.dtype)
        place_host[...] = array_host
        filled = torch.from_numpy(place_host)
        return filled if self._is_host else filled.to(self._device)


class _Memory:
    """The places of a step's tensors."""

    def __init__(self, config: WorkerConfig) -> None:
        max_rows, max_tokens = config.max_num_seqs, max(config.max_num_batched_tokens, config.max_num_seqs)
        max_blocks = -(-config.max_model_len // config.layout.block_size)
        groups, device = range(len(config.layout.groups)), config.device
        self.ids = _Place((max_tokens,), np.int64, device)
        self.positions = _Place((max_tokens,), np.int64, device)
        self.wanted = _Place((max_tokens,), np.int64, device)
        self.numbers = _Place((2 * max_rows + 1,), np.int64, "cpu")
        self.slots = tuple(_Place((max_tokens,), np.int64, device) for _ in groups)
        self.tables = tuple(_Place((max_rows, max_blocks), np.int32, device) for _ in groups)


def _wanted(chunks: Sequence[Chunk], ends: Sequence[int], rows: RowTable) -> tuple[list[Want], _Ints]:
    """What each chunk wants, and the tokens of the step whose hidden states that takes, rising; the wants count in
    these. There is always one: no kernel is asked for nothing.
    """
    wants: list[Want] = []
    spans: list[tuple[int, int]] = []
    count = 0
    for chunk, end in zip(chunks, ends, strict=True):
        first = count
        if chunk.prompt_logprobs:
            spans.append((end - chunk.num_tokens, end))
            count += chunk.num_tokens
        elif chunk.samples:
            spans.append((end - 1, end))
            count += 1
        draw = rows.draw(chunk.row) if chunk.samples else None
        prompt = _prompt_span(chunk, first, rows) if chunk.prompt_logprobs else None
        wants.append(Want(chunk.row, max(0, count - 1), draw, prompt))
    if not spans:
        spans.append((ends[-1] - 1, ends[-1]))
    return wants, np.concatenate([np.arange(first, end) for first, end in spans])


def _prompt_span(chunk: Chunk, first: int, rows: RowTable) -> PromptSpan:
    """The prompt tokens behind each of the chunk's tokens; the prompt's last token has none behind it."""
    end = min(chunk.start + chunk.num_tokens + 1, rows.num_prompt_tokens(chunk.row))
    targets_host = rows.token_ids_host[chunk.row, chunk.start + 1 : end].astype(np.int64)
    return PromptSpan(first, targets_host, rows.sampling(chunk.row))


def _check(
    chunks: Sequence[Chunk], row_R: _Ints, num_R: _Ints, length_R: _Ints, rows: RowTable, block_size: int
) -> None:
    """A wrong index would read another sequence's KV on one device and kill the process on another."""
    is_wrong_R = (length_R > rows.num_known_host[row_R]) | (num_R <= 0)
    for num_blocks_host in rows.num_blocks_host:
        is_wrong_R |= length_R > num_blocks_host[row_R] * block_size
    if is_wrong_R.any():
        chunk = chunks[int(is_wrong_R.argmax())]
        known, blocks = rows.num_known_host[chunk.row], rows.num_blocks_host[:, chunk.row].tolist()
        raise ValueError(
            f"Row {chunk.row} cannot compute tokens {chunk.start} to {chunk.start + chunk.num_tokens}: "
            f"{known} are known, its blocks of {block_size} are {blocks} by group."
        )
