"""What may be asked of a running engine besides requests, and its answers.

Not here: how a command travels (wire.py), what it does (engine/commands/).
"""

from __future__ import annotations

from msgspec import Struct

from quire.core.ids import RequestId


class Cancel(Struct, frozen=True, array_like=True, gc=False):
    """Stop sequences on demand. ``index`` None: all sequences of the request. Unknown ones are ignored."""

    request_id: RequestId
    index: int | None = None


class Command(Struct, frozen=True, array_like=True, gc=False):
    """A command by its name on the shelf ``engine/commands``; ``number`` pairs it with its reply."""

    number: int
    name: str
    arguments: tuple[str, ...] = ()


class Reply(Struct, frozen=True, array_like=True, gc=False):
    """The answer to a command: a short text when it went well, or an error."""

    number: int
    text: str = ""
    error: str = ""
