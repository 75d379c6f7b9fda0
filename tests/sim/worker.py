"""A worker that stores a value in each slot and reads history only through the block tables it was given.

A wrong table, a stale or shared block, a missing copy, a wrong hit or a lost chunk becomes a wrong token. What a plan
may not say at all is an AssertionError here.
"""

from __future__ import annotations

from collections.abc import Callable

from quire.config.decided import KVLayout, SchedulerConfig
from quire.core.step import Chunk, NewRow, RowResult, StepPlan, StepResult, TokenLogprobs
from tests.sim.model import first_reads, kv_value, next_token

NEVER_WRITTEN = -1


class WorkerRow:
    """A row of the worker's table: tokens, block tables, and up to where KV is in place."""

    __slots__ = ("end", "facts", "tables", "tokens")

    def __init__(self, facts: NewRow, num_groups: int) -> None:
        self.facts = facts
        self.tokens = list(facts.token_ids)
        self.tables: tuple[list[int], ...] = tuple([] for _ in range(num_groups))
        self.end = -1


class SimulatedWorker:
    """Runs plans in order. ``breaks(row)`` says whether a chunk fails; it then leaves rubbish in its slots."""

    def __init__(self, config: SchedulerConfig, layout: KVLayout, num_blocks: int, breaks: Callable[[], bool]) -> None:
        self.config = config
        self.windows = tuple(group.window for group in layout.groups)
        self.reads = [first_reads(window, config.max_model_len) for window in self.windows]
        self.block_size = layout.block_size
        self.num_blocks = num_blocks
        self.slots = [NEVER_WRITTEN] * (num_blocks * layout.block_size)
        self.rows: list[WorkerRow | None] = [None] * config.max_num_seqs
        self.breaks = breaks

    def run(self, plan: StepPlan) -> StepResult:
        for row in plan.removed:
            assert self.rows[row] is not None, f"row {row} is removed but was not there"
            self.rows[row] = None
        for new in plan.added:
            assert self.rows[new.row] is None, f"row {new.row} is given to a sequence while another has it"
            self.rows[new.row] = WorkerRow(new, len(self.windows))
        self._copy(plan)
        assert plan.num_tokens <= self.config.max_num_batched_tokens, (
            f"{plan.num_tokens} tokens exceed the step's budget"
        )
        assert len({chunk.row for chunk in plan.chunks}) == len(plan.chunks), "a row has two chunks in a step"
        return StepResult(plan.step, tuple([self._compute(chunk) for chunk in plan.chunks]))

    def _copy(self, plan: StepPlan) -> None:
        if not plan.copies:
            return
        size, slots = self.block_size, self.slots
        assert len({copy.target for copy in plan.copies}) == len(plan.copies), "a block is the target of two copies"
        read_first = (
            plan.step % 2 == 0
        )  # A worker may read all sources first or copy one by one: both must come to the same.
        contents = [slots[copy.source * size : (copy.source + 1) * size] for copy in plan.copies] if read_first else []
        for number, copy in enumerate(plan.copies):
            content = contents[number] if read_first else slots[copy.source * size : (copy.source + 1) * size]
            slots[copy.target * size : (copy.target + 1) * size] = content

    def _compute(self, chunk: Chunk) -> RowResult:
        row = self.rows[chunk.row]
        assert row is not None, f"row {chunk.row} is computed but empty"
        start, end = chunk.start, chunk.start + chunk.num_tokens
        assert chunk.num_tokens > 0 and end <= len(row.tokens), "a chunk is empty or goes beyond the known tokens"
        assert row.end in (-1, start), f"row {chunk.row} goes on at {start}, but was computed up to {row.end}"
        assert chunk.samples == (end == len(row.tokens)), (
            "a chunk samples exactly when it ends with the last known token"
        )
        row.end = end
        for table, blocks in zip(row.tables, chunk.new_blocks, strict=True):
            table.extend(blocks)
            assert len(table) == -(-end // self.block_size), f"a table has {len(table)} blocks for {end} tokens"
        if self.breaks():
            for table in row.tables:
                for position in range(start, end):
                    self.slots[table[position // self.block_size] * self.block_size + position % self.block_size] = -2
            return RowResult(chunk.row, error="planned failure")
        self._write(row, start, end)
        prompt_logprobs = self._prompt_logprobs(row, start, end) if chunk.prompt_logprobs else ()
        if not chunk.samples:
            return RowResult(chunk.row, prompt_logprobs=prompt_logprobs)
        facts = row.facts
        masked = facts.masked_until_min if end < facts.min_length else ()
        token = next_token(
            [self._read(row, group, end) for group in range(len(self.windows))], facts.sample_index, masked
        )
        row.tokens.append(token)
        return RowResult(chunk.row, (token,), prompt_logprobs=prompt_logprobs)

    def _write(self, row: WorkerRow, start: int, end: int) -> None:
        size, slots, salt, tokens = self.block_size, self.slots, row.facts.sampling.seed, row.tokens
        for group, (reads, table) in enumerate(zip(self.reads, row.tables, strict=True)):
            for position in range(start, end):
                far = reads[position]
                farthest = previous = 0
                if far < position:
                    farthest = slots[table[far // size] * size + far % size]
                    previous = slots[table[(position - 1) // size] * size + (position - 1) % size]
                value = kv_value((previous, farthest, tokens[position], position, salt, group))
                slots[table[position // size] * size + position % size] = value

    def _read(self, row: WorkerRow, group: int, end: int) -> tuple[int, ...]:
        size, slots, window, table = self.block_size, self.slots, self.windows[group], row.tables[group]
        first = 0 if window is None else max(0, end - window)
        read: list[int] = []
        for block in table[first // size : -(-end // size)]:
            read += slots[block * size : (block + 1) * size]
        skipped = first - first % size
        return tuple(read[first - skipped : end - skipped])

    def _prompt_logprobs(self, row: WorkerRow, start: int, end: int) -> tuple[TokenLogprobs, ...]:
        following = row.tokens[start + 1 : min(end + 1, row.facts.num_prompt_tokens)]
        return tuple(TokenLogprobs((token,), (0.0,), (1,)) for token in following)

    def num_rows(self) -> int:
        return len(self.rows) - self.rows.count(None)
