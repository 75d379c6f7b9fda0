"""Requests in, plans out, results in, deltas out.

A step: decoding rows get one token each, then running prompts and newly admitted ones share what is left of the budget.
Blocks are taken when they are needed; when there are none, the sequence that comes last in the policy's order loses its
own and waits again. So the first in the order always goes on, and everybody becomes the first some day.

Several steps may be in flight: a sequence whose next token is being drawn is left out until that step is committed. The
blocks and the row of a sequence are given back in one place (_retire), when it is done and nothing of it is in flight;
a preempted one has nothing in flight.

Not here: who is let in (admission.py), accounting of blocks (kvcache/), the policies (policies/).
Door: Scheduler.
"""

from __future__ import annotations

from bisect import insort
from collections import deque

from quire.config.decided import KVConfig, SchedulerConfig
from quire.core.events import Delta, EngineStats, FinishReason
from quire.core.ids import RequestId
from quire.core.request import Request, Resumed
from quire.core.step import Chunk, RowResult, StepPlan, StepResult
from quire.kvcache import KVCache
from quire.kvcache.pool import NoFreeBlock
from quire.scheduler.admission import Admission
from quire.scheduler.budget import SMALLEST_SHARE, share
from quire.scheduler.counters import Counters
from quire.scheduler.draft import Draft, Planned
from quire.scheduler.invariants import check_places, check_tokens
from quire.scheduler.policy import load_policy
from quire.scheduler.rows import Rows
from quire.scheduler.sequence import Family, Sequence
from quire.scheduler.waiting import WaitingQueue, by_order


class Scheduler:
    """Every unfinished sequence waits, is held back behind its family's leader, or runs (has a row).

    ``_running`` is in the policy's order.
    """

    def __init__(self, config: SchedulerConfig, kv: KVConfig) -> None:
        self.config = config
        self.kv = KVCache(kv)
        self._policy = load_policy(config.policy)
        self._families: dict[RequestId, Family] = {}
        self._shares = None if self._policy.shares is None else self._policy.shares()
        self._waiting = WaitingQueue(None if self._shares is None else self._shares.rank)
        self._running: list[Sequence] = []
        self._rows = Rows(min(config.max_num_seqs, config.max_num_batched_tokens))
        self._admission = Admission(self.kv, self._rows, self._policy)
        self._counters = Counters()
        self._smallest_share = max(1, config.max_num_batched_tokens // SMALLEST_SHARE)
        self._arrivals = 0
        self._num_unfinished = 0
        self._in_flight: deque[int] = deque()
        """Steps planned and not committed, oldest first."""
        self._max_known = min(config.max_model_len, self.kv.max_tokens(config.max_model_len) + 1)

    @property
    def has_unfinished(self) -> bool:
        """Whether another plan is needed: for sequences, or to tell the worker which rows were given back."""
        return bool(self._families) or self._rows.has_removed

    @property
    def stats(self) -> EngineStats:
        """Counters and gauges of this moment; times and bytes are left to the loop."""
        num_running = len(self._running)
        pool, counters = self.kv.pool, self._counters
        return EngineStats(
            step=counters.steps,
            num_running=num_running,
            num_waiting=self._num_unfinished - num_running,
            num_blocks=pool.num_blocks,
            num_blocks_held=pool.num_held,
            prefix_queries=counters.prefix_queries,
            prefix_hits=counters.prefix_hits,
            num_preemptions=counters.preemptions,
            prompt_tokens=counters.prompt_tokens,
            generation_tokens=counters.generation_tokens,
            step_tokens=counters.step_tokens,
        )

    # Requests come and go.

    def add(self, request: Request) -> list[Delta]:
        """Let a request wait. One whose prompt the whole pool could never hold fails at once: the deltas say so.

        Raises: ValueError when a request of that id is unfinished.
        """
        if request.id in self._families:
            raise ValueError(f"Request {request.id} is unfinished; an id can be used again only after its end.")
        samples = request.resumed or tuple(Resumed(index) for index in range(request.n))
        length = len(request.prompt_ids)
        if not 0 < length < self._max_known:
            error = (
                f"The prompt has {length} tokens; context and KV blocks of this engine take 1 to {self._max_known - 1}."
            )
            return [Delta(request.id, sample.index, finish="error", error=error) for sample in samples]
        order = self._policy.order(request, self._arrivals)
        self._arrivals += 1
        sequences = [
            Sequence.start(request, sample, order, self.kv.new_tables(request.cache_salt)) for sample in samples
        ]
        leader, *held_back = sequences
        self._families[request.id] = Family(request, sequences, leader, held_back)
        if self._shares is not None:
            self._shares.came(request)
        self._waiting.add(leader)
        self._num_unfinished += len(sequences)
        return []

    def cancel(
        self, request_id: RequestId, index: int | None = None, *, finish: FinishReason = "abort"
    ) -> list[Delta]:
        """End the unfinished sequences of a request, or one of them.

        What is in flight of them is dropped when it comes.
        """
        family = self._families.get(request_id)
        if family is None:
            return []
        return [
            self._end(sequence, finish)
            for sequence in list(family.sequences)
            if index is None or sequence.index == index
        ]

    def reset_prefix_cache(self) -> bool:
        """Forget cached content that nobody holds. False when some is held, which is still findable."""
        self.kv.drop_idle()
        return self.kv.pool.num_held == 0

    # A step is planned.

    def plan(self) -> Planned:
        """Decide the next step. May be empty, when there is nothing to do or all that could be done is in flight."""
        draft = Draft(self.config.max_num_batched_tokens)
        prefills = self._plan_decodes(draft)
        if self._waiting and not draft.is_short_of_blocks:
            prefills += self._admit(draft, prefills)
        self._plan_prefills(draft, prefills)
        if draft.num_chunks or self._rows.has_removed:
            self._counters.steps += 1
        planned = draft.finish(self._counters.steps, self._rows.take_removed())
        if draft.num_chunks:
            self._in_flight.append(planned.plan.step)
        return planned

    def _plan_decodes(self, draft: Draft) -> list[Sequence]:
        """One token for each row that needs no more; returns the rows that want several."""
        prefills = []
        for sequence in tuple(self._running):
            want = sequence.num_known - sequence.num_planned
            if want > 1:
                prefills.append(sequence)
            elif want and (sequence.num_planned < sequence.tables.capacity or self._grow(draft, sequence, 1)):
                draft.compute(sequence, 1)
        return [sequence for sequence in prefills if sequence.row is not None]

    def _admit(self, draft: Draft, prefills: list[Sequence]) -> list[Sequence]:
        """Let waiting sequences in, in order, as long as rows, blocks and budget are there for them."""
        admitted: list[Sequence] = []
        smallest = self._smallest_share
        budget = draft.budget - sum(min(sequence.num_known - sequence.num_planned, smallest) for sequence in prefills)
        room = draft.budget - smallest  # For prompts that one step can compute, however many long ones are under way.
        promised = self._admission.promised(self._running)
        while self._waiting:
            sequence = self._waiting.first()
            if draft.has_withdrawn(sequence) or (budget <= 0 and sequence.num_known > room):
                break
            place = self._admission.find(self._families[sequence.request.id], sequence, self._running, promised)
            if place is None:
                break
            promised -= self._admission.promised(place.victims)
            for victim in place.victims:
                self._preempt(draft, victim)
            self._waiting.remove(sequence)
            scheduled, copies = self._admission.let_in(sequence, place)
            self._counters.looked_up(place.num_queried, scheduled.cached_tokens)
            insort(self._running, sequence, key=by_order)
            draft.admit(sequence, scheduled, copies)
            admitted.append(sequence)
            promised += self._admission.promised([sequence])
            want = sequence.num_known - sequence.num_planned
            budget -= min(want, smallest)
            room -= want
        return admitted

    def _plan_prefills(self, draft: Draft, prefills: list[Sequence]) -> None:
        waiting = sorted((sequence for sequence in prefills if sequence.row is not None), key=by_order)
        wants = [self._families[sequence.request.id].want(sequence) for sequence in waiting]
        largest = self.config.long_prefill_token_threshold or draft.budget
        for sequence, grant in zip(waiting, share(wants, draft.budget, self._smallest_share, largest), strict=True):
            if sequence.row is None or grant == 0:
                continue
            fitting = self.kv.fits(sequence.tables) - sequence.num_planned
            if fitting < grant:
                draft.is_short_of_blocks = True
                grant = max(fitting, 1)
            if self._grow(draft, sequence, grant):
                draft.compute(sequence, grant)

    def _grow(self, draft: Draft, sequence: Sequence, num_tokens: int) -> bool:
        """Blocks for the next tokens, taken from those behind in the order if need be.

        False: the sequence lost its own meanwhile, or waits (with its blocks) for those before it.
        """
        while sequence.row is not None:
            try:
                self.kv.grow(sequence.tables, sequence.num_planned + num_tokens)
                return True
            except NoFreeBlock:
                draft.is_short_of_blocks = True
                victim = self._victim(sequence)
                if victim is None:
                    return False
                self._preempt(draft, victim)
        return False

    def _victim(self, taker: Sequence) -> Sequence | None:
        """The last in the order that comes after ``taker`` and has nothing in flight."""
        for sequence in reversed(self._running):
            if sequence is taker:
                return None
            if not sequence.num_in_flight:
                return sequence
        return None

    def _preempt(self, draft: Draft, sequence: Sequence) -> None:
        """Its blocks are given back (full ones stay findable) and it waits again, with all its known tokens."""
        assert not sequence.num_in_flight and not sequence.is_done
        withdrawn = draft.withdraw(sequence)
        self.kv.release(sequence.tables)
        self._rows.give_back(sequence, is_known=withdrawn is None)
        self._running.remove(sequence)
        sequence.restart()
        self._waiting.add(sequence)
        if withdrawn is None:
            self._counters.preemptions += 1
        else:
            sequence.was_scheduled = not withdrawn.is_first

    # A step is done.

    def commit(self, plan: StepPlan, result: StepResult) -> list[Delta]:
        """Take over what a step computed. Steps are committed in the order in which they were planned."""
        self._counters.step_tokens = 0
        if not plan.chunks:
            return []
        assert self._in_flight and plan.step == result.step == self._in_flight[0], (
            "steps are committed in the order of their plans"
        )
        self._in_flight.popleft()
        deltas: list[Delta] = []
        for chunk, row in zip(plan.chunks, result.rows, strict=True):
            sequence = self._rows[chunk.row]
            assert sequence is not None and row.row == chunk.row, "a result is of another row than its chunk"
            sequence.num_in_flight -= 1
            if self._shares is not None and not sequence.is_done:
                self._shares.used(sequence.request, sequence.newly_computed(chunk.start + chunk.num_tokens))
            if sequence.is_done:
                self._retire(sequence)
            elif row.error or (chunk.samples and not row.token_ids):
                error = row.error or "The worker drew no token."
                deltas.append(self._end(sequence, "error", error=error))
            else:
                self._advance(sequence, chunk)
                self._take_tokens(sequence, row, deltas)
        return deltas

    def _advance(self, sequence: Sequence, chunk: Chunk) -> None:
        before, after = sequence.num_computed, chunk.start + chunk.num_tokens
        sequence.num_computed = after
        self._counters.computed(len(sequence.request.prompt_ids), before, after)
        if after // self.kv.block_size > sequence.tables.num_full:
            self.kv.settle(sequence.tables, sequence.tokens_between, after)
        family = self._families[sequence.request.id]
        if family.held_back and after >= family.num_shared:
            for sibling in family.held_back:
                self._waiting.add(sibling)
            family.held_back.clear()

    def _take_tokens(self, sequence: Sequence, row: RowResult, deltas: list[Delta]) -> None:
        prompt_logprobs = sequence.take_prompt_logprobs(row)
        if not row.token_ids:
            return
        token_ids, finish, stop_reason = sequence.append(row.token_ids, self._max_known)
        self._counters.generation_tokens += len(token_ids)
        if finish is not None:
            self._leave(sequence)
        deltas.append(
            Delta(
                sequence.request.id,
                sequence.index,
                token_ids,
                row.logprobs[: len(token_ids)],
                prompt_logprobs,
                finish,
                stop_reason,
            )
        )

    # A sequence ends.

    def _end(self, sequence: Sequence, finish: FinishReason, *, error: str = "") -> Delta:
        """End a sequence before its time, wherever it stands."""
        if finish == "error":
            self.kv.forget(sequence.tables)
        self._leave(sequence)
        return Delta(sequence.request.id, sequence.index, finish=finish, error=error)

    def _leave(self, sequence: Sequence) -> None:
        sequence.is_done = True
        self._num_unfinished -= 1
        family = self._families[sequence.request.id]
        family.sequences.remove(sequence)
        if not family.sequences:
            del self._families[sequence.request.id]
            if self._shares is not None:
                self._shares.left(sequence.request)
        if sequence.row is not None:
            self._running.remove(sequence)
            self._retire(sequence)
        elif sequence in family.held_back:
            family.held_back.remove(sequence)
        else:
            self._waiting.remove(sequence)
        if sequence is family.leader and family.held_back:
            family.leader = family.held_back.pop(0)
            self._waiting.add(family.leader)

    def _retire(self, sequence: Sequence) -> None:
        """The one place where the blocks and the row of an ended sequence are given back."""
        if not sequence.num_in_flight:
            self.kv.release(sequence.tables)
            self._rows.give_back(sequence, is_known=True)

    # Is all well?

    def check(self) -> None:
        """Raises AssertionError when an invariant of rows, queues, blocks or contents is violated."""
        leaving = [sequence for sequence in self._rows.taken() if sequence.is_done]
        self._rows.check([*self._running, *leaving])
        sequences = check_places(self._families.values(), self._waiting, self._running)
        assert len(sequences) == self._num_unfinished, "unfinished sequences are miscounted"
        for sequence in sequences:
            check_tokens(sequence, self._max_known, len(self._in_flight))
        for sequence in leaving:
            assert sequence.num_in_flight, "an ended sequence with nothing in flight has a row"
        for sequence in (*sequences, *leaving):
            self.kv.check_length(sequence.tables, sequence.num_planned, sequence.num_computed)
        self.kv.check((sequence.tables, sequence.tokens_between) for sequence in (*sequences, *leaving))
