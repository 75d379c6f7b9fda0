"""Requests end when their time is up: in the queue, in prefill, in decode, and while there is no engine."""

from __future__ import annotations

from quire.core.ids import RequestId
from quire.core.request import Request, Sampling, Stopping
from quire.engine.deadlines import Deadlines


def request(name: str, deadline_s: float) -> Request:
    return Request(RequestId(name), (1,), Sampling(0), Stopping(1), deadline_s=deadline_s)


def test_what_has_passed_is_told_once_and_in_order() -> None:
    deadlines = Deadlines()
    for name, deadline_s in (("late", 9.0), ("none", 0.0), ("soon", 2.0), ("next", 3.0)):
        deadlines.add(request(name, deadline_s))
    assert deadlines.passed(1.9) == []
    assert deadlines.passed(3.0) == ["soon", "next"]
    assert deadlines.passed(3.0) == []
    assert deadlines.passed(100.0) == ["late"]
