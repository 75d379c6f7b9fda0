"""The one place that writes errors: every failure becomes the same body, cut and cleaned.

4xx messages are Quire's own words, so they are only cut. 5xx messages may have come up from the engine, so addresses
and paths are removed, and an exception that is not a QuireError is answered with a fixed sentence. Nothing of a
failure goes out but what is made here.

Not here: which status an error has (quire.errors), when it is raised.
Door: fault_of, fault_bytes, fault_response, printable.
"""

from __future__ import annotations

import re

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from quire.errors import (
    AuthenticationFailed,
    BodyTooLarge,
    MethodNotAllowed,
    NotFound,
    QuireError,
)
from quire.server.schema.usage import Fault, FaultBody

MAX_MESSAGE_CHARS = 1000
"""With four bytes a character and JSON's escapes this keeps a body below 4 KB in practice, and below 6 KB always."""
MAX_ECHO_CHARS = 200
MAX_BODY_BYTES = 4096

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_PATH = re.compile(r"(?<![\w:/.])~?/(?:[\w.@+-]{1,255}/){1,64}[\w.@+-]{0,255}")


class ClientGone(Exception):
    """The client closed its connection; nobody reads what would be answered."""


def printable(text: str, limit: int = MAX_ECHO_CHARS) -> str:
    """A client's text as it may stand in one line of a log or a message: control characters escaped, cut at
    ``limit``.
    """
    cut = text if len(text) <= limit else text[:limit] + "…"
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", cut).encode("utf-8", "backslashreplace").decode()


def fault_of(error: BaseException) -> QuireError:
    """The error that the client is told about."""
    if isinstance(error, QuireError):
        return error
    if isinstance(error, HTTPException):
        if error.status_code == 404:
            return NotFound("There is no such route.")
        if error.status_code == 405:
            return MethodNotAllowed("This route does not serve this method.")
    return QuireError("Something went wrong inside the server.", param=None)


def fault_bytes(error: QuireError) -> bytes:
    """The JSON body of an error, at most 4 KB."""
    message = error.message
    if error.status >= 500:
        message = _PATH.sub("<path>", _ADDRESS.sub("<address>", message[: 4 * MAX_MESSAGE_CHARS]))
    param = None if error.param is None else printable(error.param)
    body = b""
    limit = MAX_MESSAGE_CHARS
    while not body or len(body) > MAX_BODY_BYTES:
        body = msgspec.json.encode(Fault(FaultBody(printable(message, limit), error.type, param, error.code)))
        limit //= 2
    return body


def fault_response(error: QuireError, extra: dict[str, str] | None = None) -> Response:
    """The whole answer: status, body, and what a client needs to decide whether to try again."""
    headers = dict(extra or {})
    if isinstance(error, AuthenticationFailed):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, BodyTooLarge):
        headers["Connection"] = "close"
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 500:
        headers["x-should-retry"] = "false"
    return Response(fault_bytes(error), error.status, headers, media_type="application/json")
