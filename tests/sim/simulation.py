"""Random operations on a scheduler, its plans run by the simulated worker, every token compared with the reference.

Everything is a function of the world and the seed. A violation is an AssertionError (or whatever the scheduler raises).

Not here: the worlds (worlds.py), the planted bugs (mutants.py).
Door: Simulation, Tally.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random

from quire.core.events import Delta
from quire.core.ids import RequestId
from quire.core.request import Request, Sampling, Stopping
from quire.core.step import StepPlan, StepResult
from quire.scheduler import Planned, Scheduler
from tests.sim.model import EOS, NUM_TOKENS, STOP
from tests.sim.reference import Expected
from tests.sim.worker import SimulatedWorker
from tests.sim.worlds import World

FINISHES = ("stop", "length", "abort", "error")
CHECK_EVERY = 24


@dataclass
class Tally:
    """What happened. ``operations`` are calls and what they did to a sequence, see Simulation."""

    submits: int = 0
    steps: int = 0
    cancels: int = 0
    failures: int = 0
    resets: int = 0
    finishes: int = 0
    preemptions: int = 0
    forks: int = 0
    hits: int = 0
    tokens: int = 0

    @property
    def operations(self) -> int:
        calls = self.submits + self.steps + self.cancels + self.resets
        return calls + self.finishes + self.preemptions + self.forks + self.hits

    def __add__(self, other: Tally) -> Tally:
        return Tally(**{name: value + getattr(other, name) for name, value in vars(self).items()})


class Simulation:
    """One world under random load.

    An operation is a call on the scheduler (submit, cancel, reset, a whole step) or what a step did to one
    sequence (finish, preemption, fork, prefix hit). After each call blocks and references are counted; every
    CHECK_EVERY calls everything is checked.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.random = world, Random(f"{world.name}/{seed}")
        self.scheduler = Scheduler(world.scheduler(), world.kv())
        self.worker = SimulatedWorker(world.scheduler(), world.kv().layout, world.num_blocks, self._breaks)
        self.expected: dict[RequestId, dict[int, Expected]] = {}
        self.in_flight: deque[tuple[StepPlan, StepResult]] = deque()
        self.unscheduled: deque[tuple[int, RequestId]] = deque()
        self.tally, self.trace, self.calls = Tally(), 0, 0
        self.breaking = True
        self.streams = [[self.random.randrange(2, NUM_TOKENS) for _ in range(world.max_len)] for _ in range(4)]
        self.longest = self.scheduler.kv.max_tokens(world.max_len)
        self.max_known = min(world.max_len, self.longest + 1)

    def run(self, num_operations: int) -> Tally:
        """Random operations, then the load ends and everything must finish in a bounded number of steps."""
        while self.tally.operations < num_operations:
            self.operate()
        self.drain()
        return self.tally

    def operate(self) -> None:
        draw = self.random.random()
        if draw < 0.02:
            self.cancel()
        elif draw < 0.024:
            self.reset()
        elif draw < 0.45 and len(self.expected) < self.world.busy:
            self.submit()
        else:
            self.step()
        self.calls += 1
        self.count()
        if self.calls % CHECK_EVERY == 0:
            self.check()

    def drain(self) -> None:
        self.breaking = False
        left = self._work_left() + 2
        while self.scheduler.has_unfinished or self.in_flight:
            assert left, "the load has ended but sequences do not finish"
            left -= 1
            self.step()
            self.count()
        self.check()
        assert not self.expected, "sequences vanished without an end"
        assert self.scheduler.kv.pool.num_held == 0 and self.worker.num_rows() == 0, "blocks or rows are held by nobody"

    def _work_left(self) -> int:
        """Steps in which all unfinished sequences finish one after the other: the first in the order gains a token each
        step.
        """
        totals = [
            min(len(one.request.prompt_ids) + one.request.stopping.max_tokens, self.world.max_len) + 2
            for family in self.expected.values()
            for one in family.values()
        ]
        return self.world.depth * sum(totals)

    # Operations.

    def submit(self) -> None:
        request = self._request()
        deltas = self.scheduler.add(request)
        self.tally.submits += 1
        if len(request.prompt_ids) > self.longest or len(request.prompt_ids) >= self.world.max_len:
            assert [delta.finish for delta in deltas] == ["error"] * request.n, "a prompt that never fits was taken"
            return
        assert not deltas, "a prompt that fits was refused"
        first = Expected(request, 0, self.worker.windows, self.max_known, None)
        others = {
            index: Expected(request, index, self.worker.windows, self.max_known, first) for index in range(1, request.n)
        }
        self.expected[request.id] = {0: first, **others}
        if self.world.policy == "fcfs":
            self.unscheduled.append((self.tally.steps + self._work_left() + 2, request.id))

    def _request(self) -> Request:
        random, world = self.random, self.world
        stream = random.choice(self.streams)
        length = (
            random.randrange(1, world.max_len) if random.random() < 0.2 else random.randrange(1, world.max_len // 2)
        )
        prompt = stream[:length]
        if random.random() < 0.3:
            cut = random.randrange(length)
            prompt[cut:] = [random.randrange(2, NUM_TOKENS) for _ in range(length - cut)]
        num_prompt_logprobs = 0 if random.random() < 0.08 else -1
        max_tokens = random.randrange(1, 36 if random.random() < 0.12 else 12)
        return Request(
            id=RequestId(str(self.tally.submits)),
            prompt_ids=tuple(prompt),
            sampling=Sampling(seed=(salt := random.choice((0, 0, 0, 1, 2))), num_prompt_logprobs=num_prompt_logprobs),
            stopping=Stopping(
                max_tokens=max_tokens,
                min_tokens=random.randrange(max_tokens) if random.random() < 0.4 else 0,
                eos_token_ids=(EOS,) if random.random() < 0.8 else (),
                stop_token_ids=(STOP,) if random.random() < 0.3 else (),
            ),
            n=random.choice((2, 3, 5)) if random.random() < 0.2 else 1,
            priority=random.randrange(3),
            tenant=("", "a", "b")[self.tally.submits % 3],
            weight=1.0 + self.tally.submits % 3,
            cache_salt=("", "a", "b")[salt],
            reads_prefix_cache=num_prompt_logprobs < 0 and random.random() < 0.9,
        )

    def cancel(self) -> None:
        if not self.expected:
            return
        request_id = self.random.choice(list(self.expected))
        index = self.random.choice(list(self.expected[request_id])) if self.random.random() < 0.5 else None
        count = len(self.expected[request_id]) if index is None else 1
        deltas = self.scheduler.cancel(request_id, index)
        assert len(deltas) == count, "a cancel ends exactly what was unfinished"
        self.tally.cancels += 1
        self.hear(deltas, "abort")

    def reset(self) -> None:
        is_clean = self.scheduler.reset_prefix_cache()
        assert is_clean == (self.scheduler.kv.pool.num_held == 0)
        assert not self.scheduler.kv.pool.idle(), "a reset left cached blocks"
        self.tally.resets += 1

    def step(self) -> None:
        """Plan and run; commit the oldest step once as many are in flight as the world allows, or nothing more can be
        planned.
        """
        planned = self.scheduler.plan()
        self.tally.steps += 1
        if self.unscheduled:
            self._note_scheduled(planned)
        if planned.preempted and self.world.depth == 1:
            self._check_victims(planned)
        self._note(planned)
        if not planned.plan.is_empty:
            self.in_flight.append((planned.plan, self.worker.run(planned.plan)))
        if self.random.random() < 0.02:
            self.cancel()
        while self.in_flight and (len(self.in_flight) >= self.world.depth or planned.plan.is_empty):
            self.hear(self.scheduler.commit(*self.in_flight.popleft()), None)

    # What is seen.

    def _note_scheduled(self, planned: Planned) -> None:
        seen = {event.request_id for event in planned.scheduled if event.is_first}
        if seen:
            self.unscheduled = deque(entry for entry in self.unscheduled if entry[1] not in seen)
        while self.unscheduled and self.unscheduled[0][1] not in self.expected:
            self.unscheduled.popleft()
        if self.unscheduled:
            deadline, request_id = self.unscheduled[0]
            assert self.tally.steps <= deadline, (
                f"request {request_id} is starved: it has waited for its row beyond its bound"
            )

    def _check_victims(self, planned: Planned) -> None:
        """Only the last in the order lose their rows; with more steps in flight the very last may be out of reach."""
        orders = {request_id: self._order(request_id) for request_id in self.expected}
        first_victim = min(orders[preempted.request_id] for preempted in planned.preempted)
        for sequence in self.scheduler._running:
            assert orders[sequence.request.id] <= first_victim, "a sequence was preempted though one behind it goes on"

    def _order(self, request_id: RequestId) -> tuple[int, int]:
        request = next(iter(self.expected[request_id].values())).request
        return (request.priority if self.world.policy == "priority" else 0, int(request_id))

    def _note(self, planned: Planned) -> None:
        tally, plan = self.tally, planned.plan
        tally.preemptions += len(planned.preempted)
        tally.tokens += plan.num_tokens
        tally.forks += len({copy.target for copy in plan.copies}) // len(self.worker.windows)
        for event in planned.scheduled:
            if event.cached_tokens:
                tally.hits += 1
                one = self.expected[event.request_id][event.index]
                assert one.request.reads_prefix_cache, "a request that does not read the prefix cache got a hit"
                assert event.cached_tokens < len(one.values[0]), "a hit covers the last known token"
        self.trace = hash(
            (
                self.trace,
                plan.step,
                len(plan.added),
                *[(chunk.row, chunk.start, chunk.num_tokens) for chunk in plan.chunks],
            )
        )

    def hear(self, deltas: list[Delta], only: str | None) -> None:
        """Compare deltas with the reference."""
        for delta in deltas:
            family = self.expected.get(delta.request_id)
            assert family is not None and delta.index in family, "a delta of a sequence that has ended"
            one = family[delta.index]
            finish, stop_reason = None, None
            for token in delta.token_ids:
                assert finish is None, "tokens after an end"
                right, finish, stop_reason = one.advance()
                assert token == right, (
                    f"request {delta.request_id}/{delta.index}: token {token} at {len(one.generated)}, right is {right}"
                )
            if delta.token_ids:
                assert (delta.finish, delta.stop_reason) == (finish, stop_reason), "a sequence ends wrongly"
                self._hear_prompt_logprobs(one, delta)
            else:
                assert delta.finish == (only or "error"), "an end without a cause"
                self.tally.failures += delta.finish == "error"
            self.trace = hash(
                (self.trace, delta.index, *delta.token_ids, FINISHES.index(delta.finish) if delta.finish else -1)
            )
            if delta.finish:
                self.tally.finishes += 1
                del family[delta.index]
                if not family:
                    del self.expected[delta.request_id]

    def _hear_prompt_logprobs(self, one: Expected, delta: Delta) -> None:
        due = delta.index == 0 and one.request.sampling.num_prompt_logprobs >= 0 and not one.prompt_logprobs
        one.prompt_logprobs = True
        right = one.request.prompt_ids[1:] if due else ()
        assert tuple(logprobs.ids[0] for logprobs in delta.prompt_logprobs) == right, (
            "prompt logprobs are lost, doubled or misplaced"
        )

    def _breaks(self) -> bool:
        return self.breaking and self.random.random() < 0.003

    # What must hold.

    def count(self) -> None:
        """Cheap enough for every call: blocks held and references to them add up, rows too."""
        scheduler = self.scheduler
        pool, rows = scheduler.kv.pool, scheduler._rows.taken()
        holders = pool._holders
        assert len(holders) - holders.count(0) == pool.num_held, "free + cached + held differs from the total"
        tables = [sequence.tables for sequence in rows]
        assert sum(holders) == sum(len(one.groups) * one.length - sum(one.first_live) for one in tables), (
            "references differ from entries of tables"
        )
        assert len(rows) == scheduler._rows.num_taken and len(scheduler._running) <= len(rows) <= self.world.num_rows

    def check(self) -> None:
        """Everything; costs many times a step."""
        self.scheduler.check()
        stats = self.scheduler.stats
        num_unfinished = sum(map(len, self.expected.values()))
        assert stats.num_running + stats.num_waiting == num_unfinished, (
            "the scheduler and the clients disagree about what is unfinished"
        )
