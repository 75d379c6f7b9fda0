"""What came of a request, to the last bit, and where two of them part.

Door: Answer, answer_of, digest, difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import zip_longest

import msgspec
from msgspec import Struct

from quire.core.outputs import PositionLogprobs, RequestOutput

Place = tuple[tuple[int, float, int], ...]
"""(token id, logprob, rank) of the token that stands there and of the others that were told, in their order."""


class Sample(Struct, frozen=True, array_like=True):
    """One continuation."""

    token_ids: tuple[int, ...]
    logprobs: tuple[Place, ...]
    text: str
    finish_reason: str | None
    stop_reason: int | str | None


class Answer(Struct, frozen=True, array_like=True):
    """All that a request's client learns of its tokens."""

    samples: tuple[Sample, ...]
    prompt_logprobs: tuple[Place, ...]


def answer_of(output: RequestOutput) -> Answer:
    """The part of an output that must always be the same: all but times, ids and hits in the cache."""
    samples = [
        Sample(tuple(one.token_ids), _places(one.logprobs), one.text, one.finish_reason, one.stop_reason)
        for one in output.outputs
    ]
    return Answer(tuple(samples), _places(output.prompt_logprobs))


def _places(positions: Sequence[PositionLogprobs | None] | None) -> tuple[Place, ...]:
    return tuple(
        tuple((id, found.logprob, found.rank or 0) for id, found in (position or {}).items())
        for position in positions or ()
    )


def digest(answers: Sequence[Answer]) -> str:
    """One hash over ids, logprobs (the bits of the floats), texts and ends."""
    return hashlib.sha256(msgspec.msgpack.encode(answers)).hexdigest()


def difference(expected: Answer, found: Answer) -> str:
    """Where two answers part first, in words; empty when they are the same."""
    if digest([expected]) == digest([found]):
        return ""
    for at, (right, wrong) in enumerate(zip_longest(expected.prompt_logprobs, found.prompt_logprobs)):
        if right != wrong:
            return f"prompt logprobs, position {at}: {_said(right)} became {_said(wrong)}"
    for index, (one, other) in enumerate(zip(expected.samples, found.samples, strict=True)):
        for at, (id, new_id) in enumerate(zip_longest(one.token_ids, other.token_ids)):
            right = one.logprobs[at] if at < len(one.logprobs) else None
            wrong = other.logprobs[at] if at < len(other.logprobs) else None
            if id != new_id or right != wrong:
                return f"sample {index}, token {at}: {id} {_said(right)} became {new_id} {_said(wrong)}"
        if one != other:
            return (
                f"sample {index}: {one.finish_reason} ({one.stop_reason!r}) {one.text[-40:]!r} became "
                f"{other.finish_reason} ({other.stop_reason!r}) {other.text[-40:]!r}"
            )
    return "bits of a logprob that compare equal (0.0 and -0.0)"


def _said(place: Place | None) -> str:
    """Logprobs with 9 digits, which tell any two of float32 apart."""
    if place is None:
        return "nothing"
    return "{" + ", ".join(f"{id}: {logprob:.9g} (rank {rank})" for id, logprob, rank in place) + "}"
