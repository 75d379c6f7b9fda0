"""Messages between front and engine as bytes, and back.

A frame is a little-endian 32-bit length, one byte that says which record it carries, and that record as msgpack.
Lengths are capped and types checked on arrival, so that garbage ends the connection instead of the process.

Not here: sockets (engine/process.py, engine/main.py).
Door: encode, encode_events, Decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from quire.core.command import Cancel, Command, Reply
from quire.core.events import Ready, StartFailed, StepEvents
from quire.core.request import Request

Message = Request | Cancel | Command | Reply | StepEvents | Ready | StartFailed

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Room for a request of ten million token ids, far above any context; what is longer is garbage."""

_KINDS: tuple[type[Message], ...] = (Request, Cancel, Command, Reply, StepEvents, Ready, StartFailed)
_NUMBER_OF = {kind: number for number, kind in enumerate(_KINDS)}
_HEADER = struct.Struct("<IB")
_encoder = msgspec.msgpack.Encoder()
_decoders = tuple(msgspec.msgpack.Decoder(kind) for kind in _KINDS)


class WireError(Exception):
    """The bytes are no frame of ours; nothing after them can be trusted."""


def encode(message: Message) -> bytes:
    """One frame.

    Raises: WireError when the message is longer than a frame may be.
    """
    payload = _encoder.encode(message)
    if len(payload) > MAX_FRAME_BYTES:
        kind = type(message).__name__
        raise WireError(f"A {kind} of {len(payload)} bytes exceeds the {MAX_FRAME_BYTES} bytes of a frame.")
    return _HEADER.pack(len(payload), _NUMBER_OF[type(message)]) + payload


def encode_events(events: StepEvents) -> Iterator[bytes]:
    """The frames of one step's events: one, or several where logprobs make it longer than a frame may be.

    Raises: WireError when a single delta is longer than that; text/limits.py bounds what a request may ask, so that
    none is.
    """
    try:
        yield encode(events)
        return
    except WireError:
        middle = len(events.deltas) // 2
        if not middle:
            raise
    yield from encode_events(replace(events, deltas=events.deltas[:middle]))
    yield from encode_events(StepEvents(deltas=events.deltas[middle:], at_s=events.at_s))


class Decoder:
    """Bytes in, whole messages out; keeps the beginning of a message until the rest arrives."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete now, in their order.

        Raises: WireError for a length above the cap, an unknown kind, or a payload that is not of its kind.
        """
        self._pending += data
        messages: list[Message] = []
        start = 0
        while len(self._pending) - start >= _HEADER.size:
            length, kind = _HEADER.unpack_from(self._pending, start)
            if length > MAX_FRAME_BYTES or kind >= len(_KINDS):
                raise WireError(f"A frame of kind {kind} and {length} bytes is none of ours.")
            end = start + _HEADER.size + length
            if end > len(self._pending):
                break
            messages.append(self._decode(kind, start + _HEADER.size, end))
            start = end
        del self._pending[:start]
        return messages

    def _decode(self, kind: int, start: int, end: int) -> Message:
        try:
            with memoryview(self._pending) as view:
                return _decoders[kind].decode(view[start:end])
        except msgspec.MsgspecError as error:
            raise WireError(f"A frame does not hold a {_KINDS[kind].__name__}: {error}.") from error
