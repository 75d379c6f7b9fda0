"""Planted bugs: each changes what the scheduler or the KV cache does, as a slip of a programmer might. The simulation
must notice.

A mutant replaces methods of classes for the time of a run; ``patch`` undoes it.

Not here: how long a mutant is hunted (test_mutants.py).
Door: MUTANTS.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from hashlib import sha256

from msgspec.structs import replace
from pytest import MonkeyPatch

from quire.core.step import BlockCopy, NewRow, RowResult, StepPlan
from quire.kvcache import cache as cache_module
from quire.kvcache.cache import KVCache
from quire.kvcache.groups import GroupReach
from quire.kvcache.pool import BlockPool
from quire.kvcache.prefix import PrefixCache, extend_digests
from quire.kvcache.tables import NO_BLOCK, BlockTables
from quire.scheduler.draft import Draft, Planned
from quire.scheduler.rows import Rows
from quire.scheduler.scheduler import Scheduler
from quire.scheduler.sequence import Family, Sequence
from quire.scheduler.waiting import WaitingQueue

Mutant = Callable[[MonkeyPatch], None]
MUTANTS: dict[str, Mutant] = {}


def mutant(plant: Mutant) -> Mutant:
    MUTANTS[plant.__name__] = plant
    return plant


# Reference counts and states of blocks.


@mutant
def a_released_sequence_forgets_one_block(patch: MonkeyPatch) -> None:
    release = KVCache.release

    def release_but_one(self: KVCache, tables: BlockTables) -> None:
        if tables.length > 2:
            tables.groups[0][-1] = NO_BLOCK
        release(self, tables)

    patch.setattr(KVCache, "release", release_but_one)


@mutant
def a_shared_block_is_released_twice(patch: MonkeyPatch) -> None:
    release = BlockPool.release

    def release_twice(self: BlockPool, block: int) -> None:
        release(self, block)  # type: ignore[arg-type]
        if self._holders[block] == 2:
            release(self, block)  # type: ignore[arg-type]

    patch.setattr(BlockPool, "release", release_twice)


@mutant
def a_cached_block_that_is_held_again_stays_evictable(patch: MonkeyPatch) -> None:
    def hold(self: BlockPool, block: int) -> None:
        self._holders[block] += 1

    patch.setattr(BlockPool, "hold", hold)


@mutant
def the_pool_promises_one_block_too_many(patch: MonkeyPatch) -> None:
    patch.setattr(BlockPool, "num_available", property(lambda self: len(self._free) + len(self._idle) + 1))


@mutant
def an_ended_sequence_keeps_its_blocks(patch: MonkeyPatch) -> None:
    def retire(self: Scheduler, sequence: Sequence) -> None:
        if not sequence.num_in_flight:
            if sequence.generated:
                self.kv.release(sequence.tables)
            self._rows.give_back(sequence, is_known=True)

    patch.setattr(Scheduler, "_retire", retire)


@mutant
def a_sequence_cancelled_in_flight_is_retired_at_once(patch: MonkeyPatch) -> None:
    def retire(self: Scheduler, sequence: Sequence) -> None:
        if sequence.row is not None:
            self.kv.release(sequence.tables)
            self._rows.give_back(sequence, is_known=True)

    patch.setattr(Scheduler, "_retire", retire)


# Content.


@mutant
def an_evicted_block_can_still_be_found(patch: MonkeyPatch) -> None:
    def evict(self: BlockPool) -> int:
        block, _ = self._idle.popitem(last=False)
        self._is_kept[block] = False
        return block

    patch.setattr(BlockPool, "_evict", evict)


@mutant
def the_salt_is_not_hashed(patch: MonkeyPatch) -> None:
    patch.setattr(cache_module, "root_digest", lambda salt: sha256(b"").digest())


@mutant
def a_digest_does_not_cover_the_blocks_before(patch: MonkeyPatch) -> None:
    def extend(
        digests: list[bytes], root: bytes, between: Callable[[int, int], list[int]], size: int, count: int
    ) -> None:
        for number in range(len(digests), count):
            digests.append(sha256(root + array("I", between(number * size, (number + 1) * size)).tobytes()).digest())

    patch.setattr(cache_module, "extend_digests", extend)


@mutant
def a_hit_may_cover_the_last_known_token(patch: MonkeyPatch) -> None:
    find = KVCache.find
    patch.setattr(KVCache, "find", lambda self, tables, between, num_known: find(self, tables, between, num_known + 1))


@mutant
def a_block_is_findable_as_soon_as_it_is_planned(patch: MonkeyPatch) -> None:
    plan = Scheduler.plan

    def plan_and_settle(self: Scheduler) -> Planned:
        planned = plan(self)
        for chunk in planned.plan.chunks:
            sequence = self._rows[chunk.row]
            assert sequence is not None
            for group, table in enumerate(sequence.tables.groups):
                for number in range(sequence.tables.num_full, sequence.num_planned // self.kv.block_size):
                    extend_digests(
                        sequence.tables.digests,
                        sequence.tables.root,
                        sequence.tokens_between,
                        self.kv.block_size,
                        number + 1,
                    )
                    if self.kv._prefix.add(group, sequence.tables.digests[number], table[number]):
                        self.kv.pool.keep(table[number])
        return planned

    patch.setattr(Scheduler, "plan", plan_and_settle)


@mutant
def a_second_block_of_equal_content_replaces_the_first(patch: MonkeyPatch) -> None:
    def add(self: PrefixCache, group: int, digest: bytes, block: int) -> bool:
        self._blocks[group][digest] = block  # type: ignore[assignment]
        self._contents[block] = (group, digest)  # type: ignore[index]
        return True

    patch.setattr(PrefixCache, "add", add)


@mutant
def a_row_that_failed_goes_on_over_its_rubbish(patch: MonkeyPatch) -> None:
    commit = Scheduler.commit

    def commit_without_errors(self: Scheduler, plan: StepPlan, result: object) -> object:
        rows = tuple(
            RowResult(row.row) if row.error and not chunk.samples else row
            for chunk, row in zip(plan.chunks, result.rows, strict=True)  # type: ignore[attr-defined]
        )
        return commit(self, plan, type(result)(result.step, rows))  # type: ignore[attr-defined, call-arg, arg-type]

    patch.setattr(Scheduler, "commit", commit_without_errors)


# Forks.


@mutant
def a_fork_does_not_copy_the_partial_block(patch: MonkeyPatch) -> None:
    admit = Draft.admit
    patch.setattr(Draft, "admit", lambda self, sequence, scheduled, copies: admit(self, sequence, scheduled, []))


@mutant
def a_fork_shares_the_partial_block(patch: MonkeyPatch) -> None:
    fork = KVCache.fork

    def fork_sharing(self: KVCache, source: BlockTables, target: BlockTables, num_tokens: int) -> list[BlockCopy]:
        for group, copy in enumerate(fork(self, source, target, num_tokens)):
            self.pool.release(copy.target)
            self.pool.hold(copy.source)
            target.groups[group][-1] = copy.source
        return []

    patch.setattr(KVCache, "fork", fork_sharing)


@mutant
def a_sibling_is_forked_while_the_prompt_is_not_computed(patch: MonkeyPatch) -> None:
    advance = Scheduler._advance

    def advance_and_release(self: Scheduler, sequence: Sequence, chunk: object) -> None:
        advance(self, sequence, chunk)  # type: ignore[arg-type]
        family = self._families[sequence.request.id]
        for sibling in family.held_back:
            self._waiting.add(sibling)
        family.held_back.clear()

    def source(self: Family, taker: Sequence) -> Sequence | None:
        return next((one for one in self.sequences if one is not taker and one.tables.num_sent), None)

    patch.setattr(Scheduler, "_advance", advance_and_release)
    patch.setattr(Family, "source", source)


# Windows.


@mutant
def a_window_frees_a_block_too_early(patch: MonkeyPatch) -> None:
    leave = KVCache._leave
    patch.setattr(
        KVCache,
        "_leave",
        lambda self, tables, group, first: leave(self, tables, group, min(first + 1, tables.length - 1)),
    )


@mutant
def a_window_hit_needs_only_its_last_block(patch: MonkeyPatch) -> None:
    longest_hit = GroupReach.longest_hit

    def last_block(self: GroupReach, digests: list[bytes], cached: set[bytes], limit: int) -> int:
        if self.window is None:
            return longest_hit(self, digests, cached, limit)
        return next((hit for hit in range(limit, 0, -1) if digests[hit - 1] in cached), 0)

    patch.setattr(GroupReach, "longest_hit", last_block)


# Preemption, rows, budget, ends.


@mutant
def a_preempted_sequence_loses_a_token(patch: MonkeyPatch) -> None:
    restart = Sequence.restart

    def lose(self: Sequence) -> None:
        restart(self)
        if self.generated:
            self.generated.pop()
            self.num_known -= 1

    patch.setattr(Sequence, "restart", lose)


@mutant
def the_first_in_the_order_is_preempted_for_the_last(patch: MonkeyPatch) -> None:
    def victim(self: Scheduler, taker: Sequence) -> Sequence | None:
        return next((one for one in self._running if one is not taker and not one.num_in_flight), None)

    patch.setattr(Scheduler, "_victim", victim)


@mutant
def a_row_is_given_again_without_its_removal(patch: MonkeyPatch) -> None:
    give_back = Rows.give_back
    patch.setattr(Rows, "give_back", lambda self, sequence, is_known: give_back(self, sequence, is_known=False))


@mutant
def a_step_may_have_one_token_more_than_its_budget(patch: MonkeyPatch) -> None:
    init = Draft.__init__
    patch.setattr(Draft, "__init__", lambda self, budget: init(self, budget + 1))


@mutant
def a_cancelled_sequence_goes_on_waiting(patch: MonkeyPatch) -> None:
    def remove(self: WaitingQueue, sequence: Sequence) -> None:
        if not sequence.is_done:
            self._sequences.remove(sequence)

    patch.setattr(WaitingQueue, "remove", remove)


@mutant
def who_came_last_is_let_in_first(patch: MonkeyPatch) -> None:
    patch.setattr(WaitingQueue, "first", lambda self: self._sequences[-1])


@mutant
def a_row_back_from_preemption_counts_its_minimum_from_there(patch: MonkeyPatch) -> None:
    new_row = Sequence.new_row

    def recounted(self: Sequence) -> NewRow:
        new = new_row(self)
        return replace(new, min_length=new.min_length + len(self.generated)) if new.min_length else new

    patch.setattr(Sequence, "new_row", recounted)
