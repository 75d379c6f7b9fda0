"""A request's body: read up to a limit, and decoded into a record.

Not here: what the record means (schema/). Door: read_record.
"""

from __future__ import annotations

import logging
import re
from functools import cache
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.types import Receive

from quire.errors import BodyTooLarge, InvalidValue, UnsupportedMediaType
from quire.server.faults import ClientGone, printable

logger = logging.getLogger(__name__)

MAX_DEPTH = 128
"""Deepest nesting of arrays and objects."""
MAX_CONTAINERS = 65_536
"""Most arrays and objects of a body: each costs 30 times its two bytes once it is decoded."""

_STRINGS = re.compile(rb'"[^"]*+"?')
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")
_PLACE = re.compile(r"(?s)^(?P<what>.*) - at `(?:key` in `)?\$\.?(?P<place>.*)`$")
_MISSING = re.compile(r"Object missing required field `([^`]{1,200})`")
_MAX_ACCOUNT_CHARS = 300

T = TypeVar("T")


async def read_record(request: Request, kind: type[T], max_bytes: int) -> T:
    """The body of a JSON request as a ``kind``.

    Raises: UnsupportedMediaType, BodyTooLarge (while reading, not after), InvalidValue, ClientGone.
    """
    _check_headers(request)
    return decode(await _read(request, max_bytes), kind)


def _check_headers(request: Request) -> None:
    media, _, rest = request.headers.get("content-type", "").partition(";")
    if media.strip().lower() != "application/json":
        raise UnsupportedMediaType("The body must be JSON, sent with 'Content-Type: application/json'.")
    charset = rest.strip().lower().removeprefix("charset=").strip('"')
    if rest.strip().lower().startswith("charset=") and charset not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType("The body must be encoded in UTF-8.")
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("A compressed body is not accepted. Send it without 'Content-Encoding'.")


async def _read(request: Request, max_bytes: int) -> bytes:
    refusal = BodyTooLarge(f"The body is larger than {max_bytes} bytes, the most that this server reads.")
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > max_bytes):
        raise refusal
    return await _collect(request.receive, max_bytes, refusal)


async def _collect(receive: Receive, max_bytes: int, refusal: BodyTooLarge) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise refusal
        if not message.get("more_body", False):
            return bytes(body)


def decode(body: bytes, kind: type[T]) -> T:
    """JSON as a ``kind``: strict types, finite numbers, no lone surrogates, bounded nesting; of equal keys the last
    counts.

    Fields that ``kind`` does not have are let pass, but must be sound JSON too. Raises: InvalidValue.
    """
    _check_shape(body)
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        _check_unknown(fields, kind)
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _account(str(error)) from None
    except UnicodeError:
        raise InvalidValue("The body is not valid UTF-8.") from None
    except msgspec.DecodeError as error:
        raise InvalidValue(f"The body is not valid JSON: {printable(str(error))}.") from None
    except RecursionError:
        raise InvalidValue(f"The body is nested deeper than {MAX_DEPTH} levels.") from None


def _check_unknown(fields: dict[str, msgspec.Raw], kind: type) -> None:
    known = _names(kind)
    unknown = [name for name in fields if name not in known]
    for name in unknown:
        msgspec.json.decode(fields[name])
    if unknown:
        logger.debug("Unknown fields let pass: %s", ", ".join(printable(name, 64) for name in unknown[:20]))


@cache
def _names(kind: type) -> frozenset[str]:
    """The fields of a record; msgspec takes a millisecond to find them."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(kind))


def _check_shape(body: bytes) -> None:
    """Bound nesting and the number of containers before anything is built, in time linear in the body.

    Everything but quotes and brackets is dropped; then pairs of quotes with nothing between, which changes no other
    bracket's place inside or outside of a string; then what is left of strings; then a level of brackets at a time.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_STRUCTURE).replace(b'""', b"")
    if plain.count(b'"') > 2 * MAX_CONTAINERS:
        raise InvalidValue(f"More than {MAX_CONTAINERS} strings of the body hold brackets.")
    brackets = _STRINGS.sub(b"", plain)
    openers = brackets.count(b"[") + brackets.count(b"{")
    if openers > MAX_CONTAINERS:
        raise InvalidValue(f"The body holds {openers} arrays and objects; at most {MAX_CONTAINERS} are allowed.")
    brackets = brackets.translate(_AS_SQUARE)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise InvalidValue(f"The body is nested deeper than {MAX_DEPTH} levels, or its brackets do not match.")


def _account(text: str) -> InvalidValue:
    """msgspec's account of a mismatch as an error that names the field."""
    found = _PLACE.match(text)
    what, place = (found["what"], found["place"]) if found else (text, "")
    if (missing := _MISSING.match(what)) is not None:
        place = f"{place}.{missing[1]}".lstrip(".")
        what = f"The field '{place}' is required"
    shown = printable(what, _MAX_ACCOUNT_CHARS)
    return InvalidValue(f"{shown} (at '{place}')." if place and not missing else f"{shown}.", param=place or None)
