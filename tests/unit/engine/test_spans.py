"""Every moment of a sequence belongs to one cause."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quire.engine.spans import CAUSES, Spans


def test_an_undisturbed_sequence_waits_is_prefilled_decodes_and_is_sent() -> None:
    spans = Spans(10.0)
    spans.scheduled(11.0)
    spans.token(13.0)
    spans.token(13.5)
    spans.token(14.0)
    spans.ended(14.0, 14.25)
    assert spans.seconds == {"queue": 1.0, "prefill": 2.0, "decode": 1.0, "send": 0.25}


def test_time_without_blocks_is_the_preemptions() -> None:
    spans = Spans(0.0)
    spans.scheduled(1.0)
    spans.token(2.0)
    spans.preempted(3.0)
    spans.scheduled(7.0)
    spans.token(9.0)
    spans.ended(9.0, 9.0)
    assert spans.num_preemptions == 1
    assert spans.seconds == {"queue": 1.0, "prefill": 3.0, "decode": 1.0, "preempted": 4.0, "send": 0.0}


def test_time_between_two_engines_is_the_restarts() -> None:
    spans = Spans(0.0)
    spans.scheduled(0.0)
    spans.token(1.0)
    spans.scheduled(4.0, last_token_s=3.5)
    spans.token(5.0)
    spans.ended(5.0, 5.0)
    assert spans.seconds == {"queue": 0.0, "prefill": 2.0, "decode": 2.5, "restart": 0.5, "send": 0.0}


def test_a_request_that_ends_in_the_queue_was_in_the_queue() -> None:
    spans = Spans(1.0)
    spans.ended(0.0, 3.0)
    assert spans.seconds == {"queue": 2.0}


@given(st.lists(st.tuples(st.sampled_from(("scheduled", "token", "preempted")), st.floats(0, 100)), max_size=30))
def test_the_causes_are_known_and_add_up_to_the_whole_time_whatever_happens(happened: list[tuple[str, float]]) -> None:
    spans, last_s = Spans(0.0), 0.0
    for name, at_s in happened:
        getattr(spans, name)(at_s)
        last_s = max(last_s, at_s)
    spans.ended(0.0, last_s + 1.0)
    assert abs(sum(spans.seconds.values()) - (last_s + 1.0)) < 1e-9
    assert set(spans.seconds) <= set(CAUSES)
