"""Fair shares: by weight while tenants want more than there is, everything to one that is alone, no saving up."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from quire.config.decided import KVConfig, SchedulerConfig
from quire.core.request import Request
from quire.engine.loop import EngineLoop
from quire.scheduler.policies.fair import Shares
from quire.scheduler.scheduler import Scheduler
from tests.unit.engine.test_loop import LAYOUT, FakeExecutor, request


def asked(tenant: str, number: int, weight: float = 1.0, max_tokens: int = 6) -> Request:
    one = request(f"{tenant}{number}", *range(1, 9), max_tokens=max_tokens)
    return replace(one, tenant=tenant, weight=weight, reads_prefix_cache=False)


def fair_loop(num_rows: int = 2) -> EngineLoop:
    config = SchedulerConfig(num_rows, 16, 128, policy="fair")
    return EngineLoop(Scheduler(config, KVConfig(LAYOUT, 64)), FakeExecutor())


def tokens_told(loop: EngineLoop, num_steps: int) -> Counter[str]:
    told: Counter[str] = Counter()
    for _ in range(num_steps):
        for delta in loop.step().deltas:
            told[delta.request_id[0]] += len(delta.token_ids)
    return told


@pytest.mark.parametrize("weight", [1.0, 2.0, 3.0])
def test_tokens_are_shared_by_weight_while_both_want_more(weight: float) -> None:
    loop = fair_loop(num_rows=4)
    for number in range(200):
        loop.add(asked("a", number, weight))
        loop.add(asked("b", number))
    told = tokens_told(loop, 200)
    assert told["a"] / told["b"] == pytest.approx(weight, rel=0.15)


def test_one_who_asks_little_is_not_behind_one_who_asked_for_much_before() -> None:
    loop = fair_loop()
    for number in range(100):
        loop.add(asked("a", number))
    for _ in range(30):
        loop.step()
    loop.add(asked("b", 0))
    told = tokens_told(loop, 20)
    assert told["b"] == 6, "a single request of another tenant is served at the next free row"


def test_who_is_alone_gets_everything() -> None:
    loop = fair_loop()
    for number in range(10):
        loop.add(asked("a", number))
    assert tokens_told(loop, 60)["a"] == 60
    assert not loop.has_work


def test_nobody_saves_up_while_away() -> None:
    shares = Shares()
    first, later = asked("a", 0), asked("b", 0)
    shares.came(first)
    shares.used(first, 1000)
    shares.came(later)
    assert shares.rank("b") == shares.rank("a") == 1000


def test_who_had_more_than_the_others_still_has_when_he_comes_back() -> None:
    shares = Shares()
    first, other = asked("a", 0), asked("b", 0)
    shares.came(first)
    shares.came(other)
    shares.used(first, 1000)
    shares.left(first)
    shares.came(first)
    assert shares.rank("a") == 1000 and shares.rank("b") == 0
