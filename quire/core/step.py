"""One step of the engine: what a worker must compute, and what came of it.

A plan has no phases. For each chunk it says "compute tokens ``start`` to ``start + num_tokens`` of this row"; prefill,
decode, prefix hits and preemption are nothing but these numbers. The worker keeps the rows' token ids, block tables and
sampling columns between steps, so that a plan carries only what is new.

Not here: who decides (scheduler/), who computes (worker/).
Door: StepPlan, StepResult.
"""

from __future__ import annotations

from msgspec import Struct

from quire.core.ids import BlockId, Row
from quire.core.request import Sampling


class NewRow(Struct, frozen=True, array_like=True, gc=False):
    """A sequence enters the row table (admitted, forked, or back after a preemption).

    ``token_ids`` are all known tokens: the prompt and what was generated so far. ``num_prompt_tokens`` says where the
    prompt ends. ``min_length``: until the sequence has this many tokens, ``masked_until_min`` (its ends) are forbidden.
    """

    row: Row
    token_ids: tuple[int, ...]
    num_prompt_tokens: int
    sampling: Sampling
    sample_index: int = 0
    min_length: int = 0
    masked_until_min: tuple[int, ...] = ()


class BlockCopy(Struct, frozen=True, array_like=True, gc=False):
    """Copy the whole content of block ``source`` to ``target`` before anything is computed."""

    source: BlockId
    target: BlockId


class Chunk(Struct, frozen=True, array_like=True, gc=False):
    """Compute tokens ``start`` to ``start + num_tokens`` of ``row``.

    ``new_blocks``: one tuple for each KV group, ids to append to the row's block table of that group before the step.
    ``samples``: whether the last of these tokens is the last known one, so that the next token is drawn from its
    logits. ``prompt_logprobs``: whether the logprobs of the prompt tokens that follow the chunk's tokens are wanted.
    """

    row: Row
    start: int
    num_tokens: int
    new_blocks: tuple[tuple[BlockId, ...], ...]
    samples: bool
    prompt_logprobs: bool = False


class StepPlan(Struct, frozen=True, array_like=True, gc=False):
    """One step. Order of work: ``removed``, ``added``, ``copies``, then the chunks in their order.

    A row may be removed and taken by another sequence in the same plan. An empty plan (no chunks) may still carry
    removals.
    """

    step: int
    removed: tuple[Row, ...] = ()
    added: tuple[NewRow, ...] = ()
    copies: tuple[BlockCopy, ...] = ()
    chunks: tuple[Chunk, ...] = ()

    @property
    def num_tokens(self) -> int:
        return sum(chunk.num_tokens for chunk in self.chunks)

    @property
    def is_empty(self) -> bool:
        return not (self.removed or self.added or self.copies or self.chunks)


class TokenLogprobs(Struct, frozen=True, array_like=True, gc=False):
    """Logprobs at one position: the token that stands there first, then the most likely ones in falling order.

    ``ranks`` count from 1; ``ids``, ``logprobs`` and ``ranks`` have equal lengths. The first id may occur again among
    the rest.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    ranks: tuple[int, ...]


class RowResult(Struct, frozen=True, array_like=True, gc=False):
    """What came of one chunk: token ids (none unless it samples), logprobs one to one with them.

    ``prompt_logprobs`` belong to prompt tokens ``start + 1`` to ``start + num_tokens`` (bounded by the prompt's end).
    ``error`` fails this row alone; then there are no tokens.
    """

    row: Row
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    error: str = ""


class StepResult(Struct, frozen=True, array_like=True, gc=False):
    """Results in the order of the plan's chunks."""

    step: int
    rows: tuple[RowResult, ...] = ()
