"""What surrounds the choices of an answer: identity, time, model, and usage where it is asked for.

Chunks of one stream differ only in their choices, so that the rest is encoded once.

Not here: choices (routes/). Door: Envelope, answer_id, priority, timeout_s.
"""

from __future__ import annotations

import time

import msgspec
from msgspec import structs
from starlette.requests import Request

from quire.errors import InvalidValue
from quire.server.access import header_values
from quire.server.front import Service
from quire.server.schema.explained import Explained
from quire.server.schema.sampling import GenerationFields
from quire.server.schema.usage import Usage
from quire.server.sse import event

_encode = msgspec.json.Encoder().encode


def answer_id(prefix: str, request: Request, asked: GenerationFields) -> str:
    """The id that the client sees: its own request id if it gave one. Inside, requests have other names."""
    return f"{prefix}-{asked.request_id or request.state.request_id}"


def priority(request: Request, asked: GenerationFields) -> int:
    """The header ``X-Vllm-Priority`` before the field ``priority``. Raises InvalidValue when the header is not an
    integer.
    """
    values = header_values(request.scope, b"x-vllm-priority")
    if not values:
        return asked.priority or 0
    try:
        if len(values) == 1 and len(values[0]) <= 20:
            return int(values[0])
    except ValueError:
        pass
    raise InvalidValue("The header 'X-Vllm-Priority' must be an integer.", param="priority")


def timeout_s(request: Request, asked: GenerationFields) -> float | None:
    """The smaller of the field ``timeout`` and the header ``X-Request-Timeout``, so that a gateway can bound its
    clients. Raises InvalidValue when the header is not a number.
    """
    values = header_values(request.scope, b"x-request-timeout")
    if not values:
        return asked.timeout
    try:
        if len(values) == 1 and len(values[0]) <= 20:
            said_s = float(values[0])
            return said_s if asked.timeout is None or not said_s >= asked.timeout else asked.timeout
    except ValueError:
        pass
    raise InvalidValue("The header 'X-Request-Timeout' must be a number of seconds.", param="timeout")


class Envelope:
    """Makes events of choices. ``tells_usage``: a last event has the usage; ``tells_usage_always``: every event has
    it.
    """

    def __init__(self, service: Service, asked: GenerationFields, answer: str, kind: str) -> None:
        self.id = answer
        self.created = int(time.time())
        self.model = service.config.model_names[0]
        options = asked.stream_options
        forced = service.config.forces_usage
        self.tells_usage = forced or bool(options and options.include_usage)
        self.tells_usage_always = forced or bool(options and options.continuous_usage_stats)
        self._fingerprint = b',"system_fingerprint":' + _encode(service.fingerprint)
        facts = _encode({"id": answer, "object": kind, "created": self.created, "model": self.model})
        self._head = facts[:-1] + b',"choices":['

    def chunk(self, choice: bytes, *, extra: bytes = b"", usage: Usage | None = None, is_last: bool = False) -> bytes:
        """One event with one encoded choice. ``extra`` are further members, each with its leading comma.

        ``is_last``: of its choice; then it has the fingerprint, unless a usage event will have it.
        """
        if usage is not None:
            extra += b',"usage":' + _encode_usage(usage)
        if is_last and not self.tells_usage:
            extra += self._fingerprint
        return event(self._head + choice + b"]" + extra + b"}")

    def usage_chunk(self, usage: Usage) -> bytes:
        """The event after the last choice."""
        return event(self._head + b'],"usage":' + _encode_usage(usage) + self._fingerprint + b"}")

    def explanation(self, explained: list[Explained]) -> bytes:
        """The very last event, for a client that asked for it (see explain.py)."""
        return event(self._head + b"]" + member("quire", explained) + b"}")


def _encode_usage(usage: Usage) -> bytes:
    """Usage as streams tell it: what is not known is left out."""
    return _encode({name: value for name, value in structs.asdict(usage).items() if value is not None})


def member(name: str, value: object) -> bytes:
    """A further member of an event, with its leading comma."""
    return b"," + _encode(name) + b":" + _encode(value)
