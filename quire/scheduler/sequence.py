"""A continuation in the making, and the family of continuations of one request.

Not here: where a sequence stands (scheduler.py moves it), blocks (kvcache/).
Door: Sequence, Family.
"""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

from quire.core.events import FinishReason
from quire.core.ids import Row
from quire.core.request import Request, Resumed
from quire.core.step import NewRow, RowResult, TokenLogprobs
from quire.kvcache import BlockTables


@dataclass(slots=True, eq=False)
class Sequence:
    """0 <= computed <= planned <= known.

    It has blocks only while it has a row; it has a row until nothing of it is in flight.
    """

    request: Request
    index: int
    order: tuple[int, ...]
    """Smaller is served first: the policy's order of the request, then the index."""
    tables: BlockTables
    num_known: int
    generated: list[int] = field(default_factory=list)
    num_planned: int = 0
    num_computed: int = 0
    row: Row | None = None
    num_ever_computed: int = 0
    """Of its tokens, also before a preemption; counted only where tenants have shares."""
    num_in_flight: int = 0
    """Steps that were planned with this sequence and not committed."""
    is_done: bool = False
    was_scheduled: bool = False
    prompt_logprobs: list[TokenLogprobs] | None = None
    """Collected until the first token comes; None where none are (any longer) wanted."""

    @classmethod
    def start(cls, request: Request, sample: Resumed, order: tuple[int, ...], tables: BlockTables) -> Sequence:
        """A sample at its beginning, or where it stood when another engine had it."""
        is_told = sample.index > 0 or bool(sample.token_ids)
        wants_prompt_logprobs = not is_told and request.sampling.num_prompt_logprobs >= 0
        return cls(
            request=request,
            index=sample.index,
            order=(*order, sample.index),
            tables=tables,
            num_known=len(request.prompt_ids) + len(sample.token_ids),
            generated=list(sample.token_ids),
            prompt_logprobs=[] if wants_prompt_logprobs else None,
        )

    def tokens_between(self, first: int, last: int) -> Tokens[int]:
        """Known token ids ``first`` to ``last`` (excluded)."""
        prompt = self.request.prompt_ids
        length = len(prompt)
        if last <= length:
            return prompt[first:last]
        if first >= length:
            return self.generated[first - length : last - length]
        return (*prompt[first:], *self.generated[: last - length])

    def new_row(self) -> NewRow:
        """What the worker must know when the sequence gets its row."""
        assert self.row is not None
        stopping, length = self.request.stopping, len(self.request.prompt_ids)
        has_min = stopping.min_tokens > 0
        return NewRow(
            row=self.row,
            token_ids=(*self.request.prompt_ids, *self.generated),
            num_prompt_tokens=length,
            sampling=self.request.sampling,
            sample_index=self.index,
            min_length=length + stopping.min_tokens if has_min else 0,
            masked_until_min=(*stopping.eos_token_ids, *stopping.stop_token_ids) if has_min else (),
        )

    def reads_cache(self) -> bool:
        """Whether KV of others may stand for computing its own tokens: not while logprobs of the prompt are to be
        computed.
        """
        return self.prompt_logprobs is None

    def newly_computed(self, num_tokens: int) -> int:
        """How many of its first tokens are computed for the first time; what a preemption took is nobody's use."""
        num_new = max(0, num_tokens - self.num_ever_computed)
        self.num_ever_computed += num_new
        return num_new

    def restart(self) -> None:
        """Nothing is computed any more; what is known stays known."""
        self.num_planned = self.num_computed = 0
        if self.prompt_logprobs is not None:
            self.prompt_logprobs = []

    def take_prompt_logprobs(self, result: RowResult) -> tuple[TokenLogprobs, ...]:
        """Collect those of a result; all of them at once when the first token has come, and never again."""
        if self.prompt_logprobs is None:
            return ()
        self.prompt_logprobs.extend(result.prompt_logprobs)
        if not result.token_ids:
            return ()
        collected, self.prompt_logprobs = tuple(self.prompt_logprobs), None
        return collected

    def append(self, token_ids: Tokens[int], max_known: int) -> tuple[tuple[int, ...], FinishReason | None, int | None]:
        """Take new tokens up to the one that ends the sequence.

        Returns the tokens taken, the reason of the end if there is one, and the client's id that made it.
        """
        stopping, generated = self.request.stopping, self.generated
        for count, token in enumerate(token_ids, 1):
            generated.append(token)
            self.num_known += 1
            if token in stopping.eos_token_ids:
                return tuple(token_ids[:count]), "stop", None
            if token in stopping.stop_token_ids:
                return tuple(token_ids[:count]), "stop", token
            if len(generated) >= stopping.max_tokens or self.num_known >= max_known:
                return tuple(token_ids[:count]), "length", None
        return tuple(token_ids), None, None


@dataclass(slots=True, eq=False)
class Family:
    """The unfinished sequences of one request.

    The leader computes all of the prompt but its last token; until then the others are held back, and then they share
    its blocks. It does not go further before: its first token may be its last, and its blocks gone with it.
    """

    request: Request
    sequences: list[Sequence]
    leader: Sequence | None = None
    held_back: list[Sequence] = field(default_factory=list)

    @property
    def num_shared(self) -> int:
        """Tokens that a fork takes over: all of the prompt but its last token, which each sequence computes itself."""
        return len(self.request.prompt_ids) - 1

    def want(self, sequence: Sequence) -> int:
        """How many more tokens of one of the sequences may be planned."""
        if self.held_back and sequence is self.leader and sequence.num_planned < self.num_shared:
            return self.num_shared - sequence.num_planned
        return sequence.num_known - sequence.num_planned

    def source(self, taker: Sequence) -> Sequence | None:
        """A sequence that has computed what can be shared and still has its blocks; not one let in just now, whose
        copies are not made yet.
        """
        for sequence in self.sequences:
            if sequence is not taker and sequence.num_computed >= self.num_shared and sequence.tables.num_sent:
                return sequence
        return None
