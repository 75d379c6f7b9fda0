"""Frames between front and engine."""

from __future__ import annotations

import struct

import pytest

from quire.core import wire
from quire.core.command import Cancel, Command, Reply
from quire.core.events import Delta, EngineStats, Preempted, Ready, Scheduled, StartFailed, StepEvents
from quire.core.ids import RequestId
from quire.core.request import Request, Sampling, Stopping
from quire.core.step import TokenLogprobs
from quire.core.wire import MAX_FRAME_BYTES, Decoder, Message, WireError, encode, encode_events
from quire.text.limits import MAX_PROMPT_LOGPROBS

ID = RequestId("r-1")
MESSAGES: list[Message] = [
    Request(ID, (1, 2), Sampling(-5, logit_bias=((7, -1.5),), bad_words_ids=((1,),)), Stopping(8, 1, (0,), (9,)), n=2),
    Cancel(ID),
    Cancel(ID, 1),
    Command(3, "reset_prefix_cache", ("a",)),
    Reply(3, "true"),
    StepEvents(
        deltas=(Delta(ID, 0, (4,), (TokenLogprobs((4, 5), (-0.5, -1.0), (1, 2)),), finish="stop", stop_reason=4),),
        scheduled=(Scheduled(ID, 0, 16, True, 1.5),),
        preempted=(Preempted(ID, 1),),
        stats=EngineStats(step=2, num_running=1),
        at_s=2.5,
    ),
    Ready(1, 2, 3, 0.5),
    StartFailed("no"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_equal(message: Message) -> None:
    assert Decoder().feed(encode(message)) == [message]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_messages_cut_anywhere_come_back_whole_and_in_order(size: int) -> None:
    stream = b"".join(encode(message) for message in MESSAGES)
    decoder = Decoder()
    received = [m for start in range(0, len(stream), size) for m in decoder.feed(stream[start : start + size])]
    assert received == MESSAGES


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack("<IB", MAX_FRAME_BYTES + 1, 0),
        struct.pack("<IB", 1, 200) + b"\x00",
        struct.pack("<IB", 1, 0) + b"\xc1",
        struct.pack("<IB", 1, 0) + b"\x05",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["too long", "unknown kind", "not msgpack", "wrong type", "foreign protocol"],
)
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(WireError):
        Decoder().feed(garbage)


def test_a_message_longer_than_a_frame_is_not_sent() -> None:
    with pytest.raises(WireError, match="exceeds"):
        encode(Reply(1, "x" * (MAX_FRAME_BYTES + 1)))


def test_events_longer_than_a_frame_travel_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_FRAME_BYTES", 200)
    deltas = tuple(Delta(RequestId(f"r-{number}"), 0, tuple(range(40))) for number in range(9))
    events = StepEvents(deltas, (Scheduled(ID, 0, 16, True),), (Preempted(ID, 1),), EngineStats(step=3), 2.5)
    frames = list(encode_events(events))
    received = [message for frame in frames for message in Decoder().feed(frame)]
    assert len(frames) > 1 and all(isinstance(one, StepEvents) and one.at_s == 2.5 for one in received)
    assert tuple(delta for one in received if isinstance(one, StepEvents) for delta in one.deltas) == deltas
    first, *others = received
    assert first == StepEvents(first.deltas, events.scheduled, events.preempted, events.stats, 2.5)  # type: ignore[union-attr]
    assert all(one == StepEvents(one.deltas, at_s=2.5) for one in others)  # type: ignore[union-attr]
    with pytest.raises(WireError, match="exceeds"):
        list(encode_events(StepEvents((Delta(ID, 0, tuple(range(400))),))))


def test_the_most_prompt_logprobs_that_may_be_asked_fit_a_frame() -> None:
    widest = TokenLogprobs((2**31 - 1,), (-1.5,), (2**31 - 1,))
    thousand = len(encode(StepEvents((Delta(ID, 0, prompt_logprobs=(widest,) * 1000),))))
    assert MAX_PROMPT_LOGPROBS / 1000 * thousand < MAX_FRAME_BYTES
