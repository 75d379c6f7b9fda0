"""Every policy on the shelf: a total order, displacement that agrees with it, and everybody finishes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quire import plugins
from quire.core.ids import RequestId
from quire.core.request import Request, Sampling, Stopping
from quire.scheduler.policy import Policy, load_policy
from tests.sim.simulation import Simulation
from tests.sim.worlds import World

NAMES = plugins.names("scheduler.policies")
REQUESTS = [
    Request(RequestId(str(number)), (1,) * (1 + number % 4), Sampling(seed=0), Stopping(4), priority=number % 3 - 1)
    for number in range(12)
]


@pytest.fixture(params=NAMES)
def policy(request: pytest.FixtureRequest) -> Policy:
    return load_policy(request.param)


def test_the_shelf_has_policies() -> None:
    assert {"fcfs", "priority", "fair"} <= set(NAMES)


def test_no_two_requests_have_the_same_place_in_the_order(policy: Policy) -> None:
    orders = [policy.order(request, arrival) for arrival, request in enumerate(REQUESTS)]
    assert len(set(orders)) == len(orders)
    assert sorted(orders) == sorted(orders, reverse=True)[::-1]


def test_of_two_equal_requests_the_earlier_comes_first(policy: Policy) -> None:
    assert policy.order(REQUESTS[0], 3) < policy.order(REQUESTS[0], 4)


def test_only_one_who_comes_before_displaces_and_never_mutually(policy: Policy) -> None:
    for first, one in enumerate(REQUESTS):
        assert not policy.displaces(one, one)
        for second, other in enumerate(REQUESTS):
            if policy.displaces(one, other):
                assert policy.order(one, first) < policy.order(other, second)
                assert not policy.displaces(other, one)


def test_whom_the_last_need_not_make_way_for_nobody_does(policy: Policy) -> None:
    running = sorted((policy.order(request, arrival), arrival) for arrival, request in enumerate(REQUESTS))
    for waiting in REQUESTS:
        gives_way = [policy.displaces(waiting, REQUESTS[arrival]) for _, arrival in running]
        assert gives_way == sorted(gives_way), "those that give way are the last in the order"


@pytest.mark.parametrize("name", NAMES)
def test_everybody_finishes_with_the_right_tokens_in_a_tiny_pool(name: str) -> None:
    world = World("contract", (None, 6), 4, 22, 4, 16)
    assert Simulation(replace(world, policy=name), 0).run(3_000).finishes
