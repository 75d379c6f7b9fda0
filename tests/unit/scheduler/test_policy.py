"""Policies are taken from their shelf by name."""

from __future__ import annotations

import pytest

from quire.errors import ConfigError
from quire.scheduler.policy import load_policy
from tests.unit.scheduler.driving import request


def test_a_policy_is_loaded_by_its_name() -> None:
    assert load_policy("priority").order(request("a", priority=3), 9) == (3, 9)


def test_an_unknown_policy_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigError, match="fcfs"):
        load_policy("fair-ish")
