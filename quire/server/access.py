"""Who may speak to the server, and how each exchange is bounded, counted and logged: plain ASGI layers around the
routes.

Every route needs a key when keys are set, except those that declare themselves open: /health and /ping for probes,
/metrics because dashboards scrape without credentials and it holds no content. The decision is made on the very path
that is routed.

Not here: CORS (Starlette's own layer, set in app.py), the wording of errors (faults.py).
Door: Exchange, FaultBoundary, HostCheck, KeyCheck.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import re
import time
import uuid
from collections.abc import Callable, Collection, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quire.config.keys import ANYBODY, ApiKey
from quire.errors import AuthenticationFailed, InvalidValue, NotFound, QuireError
from quire.server.faults import ClientGone, fault_of, fault_response, printable

logger = logging.getLogger(__name__)
access_log = logging.getLogger("quire.server.access")

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
OTHER = "other"
POLLED = "/console/state"
"""An open console asks for it every second; the log has no line for that."""
CLIENT_GONE_STATUS = 499

_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_HOST = re.compile(rb"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
_LOOPBACK_NAMES = frozenset((b"localhost", b"127.0.0.1", b"[::1]"))
_MODEL_PREFIX = b"/v1/models/"

Answered = Callable[[str, str, int, float], None]
"""Told about every exchange: route template, method, status, seconds. The first two come from closed sets."""


def header_values(scope: Scope, name: bytes) -> list[bytes]:
    """All values of a header, as sent."""
    return [value for key, value in scope["headers"] if key == name]


def new_id() -> str:
    """32 hexadecimal digits that nobody can guess."""
    return uuid.uuid4().hex


def client_request_id(scope: Scope) -> str | None:
    """The client's own X-Request-Id where it is one sound value. It is shown back and never a key inside."""
    values = header_values(scope, b"x-request-id")
    if len(values) == 1 and _REQUEST_ID.fullmatch(values[0]):
        return values[0].decode("ascii")
    return None


class Exchange:
    """Outermost: names the request, adds the headers of every answer, counts and logs how it ended."""

    def __init__(self, app: ASGIApp, *, answered: Answered, sends_request_id: bool, logs_access: bool) -> None:
        self._app = app
        self._answered = answered
        self._sends_request_id = sends_request_id
        self._logs_access = logs_access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "No route here speaks WebSocket."})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.monotonic()
        request_id = client_request_id(scope) or new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.setdefault("headers", [])
                if self._sends_request_id:
                    headers.append((b"x-request-id", request_id.encode("ascii")))
                headers.append((b"x-content-type-options", b"nosniff"))
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            self._finish(scope, status or 500, time.monotonic() - started_s)

    def _finish(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        template = route.path if isinstance(route, Route) else OTHER
        method = scope["method"] if scope["method"] in METHODS else OTHER
        self._answered(template, method, status, seconds)
        if self._logs_access and template != POLLED:
            client = scope.get("client") or ("-", 0)
            shown = printable(f"{scope['method'][:16]} {scope['path'][:200]}")
            access_log.info('%s:%s "%s" %d %.3f s', client[0], client[1], shown, status, seconds)


class FaultBoundary:
    """Turns whatever was raised below into an answer; after an answer has begun it can only be logged."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def observed(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except ClientGone:
            if not has_started:
                await send({"type": "http.response.start", "status": CLIENT_GONE_STATUS, "headers": []})
                await send({"type": "http.response.body", "body": b""})
        except Exception as error:
            fault = fault_of(error)
            if fault.status >= 500 and not isinstance(error, QuireError):
                logger.exception("An error inside the server at %s", printable(scope["path"]))
            if has_started:
                raise
            allow = (error.headers or {}).get("Allow") if isinstance(error, HTTPException) else None
            await fault_response(fault, {"Allow": allow} if allow else None)(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a socket bound to ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class HostCheck:
    """Refuses a broken Host header, and on a loopback socket every name but the machine's own (DNS rebinding)."""

    def __init__(self, app: ASGIApp, *, host: str, has_socket_file: bool) -> None:
        self._app = app
        self._names: frozenset[bytes] | None = None
        if is_loopback(host) and not has_socket_file:
            self._names = _LOOPBACK_NAMES | {host.lower().encode("ascii"), f"[{host.lower()}]".encode("ascii")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            values = header_values(scope, b"host")
            found = _HOST.fullmatch(values[0]) if len(values) == 1 else None
            if found is None or (self._names is not None and found["name"].lower() not in self._names):
                raise InvalidValue("The Host header is missing, malformed, or not a name of this server.")
        await self._app(scope, receive, send)


def check_raw_path(scope: Scope) -> None:
    """Refuse spellings of a path that some layer might read differently from the router. Raises NotFound.

    Only the name of a model may hold percent escapes: no other route needs any.
    """
    raw: bytes = (scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")).split(b"?", 1)[0]
    root = scope.get("root_path", "").encode()
    raw = raw.removeprefix(root) if root else raw
    if b"%" in raw and not raw.startswith(_MODEL_PREFIX):
        raise NotFound("There is no such route.")
    if any(byte <= 0x20 or byte == 0x7F for byte in raw) or "\n" in scope["path"]:
        raise NotFound("There is no such route.")


class KeyCheck:
    """Default deny: every path but the open ones needs one of the keys. Whose it is stands in ``request.state.key``.

    Keys are kept and compared as digests of equal length, all of them every time, so that time tells nothing about
    them.
    """

    def __init__(self, app: ASGIApp, *, keys: Sequence[ApiKey], open_paths: Collection[str]) -> None:
        self._app = app
        self._keys = tuple((bytes.fromhex(key.sha256), key) for key in keys)
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            check_raw_path(scope)
            key = self._key(scope) if self._keys else ANYBODY
            if key is None and route_path(scope) not in self._open_paths:
                raise AuthenticationFailed("This server needs a valid key, sent as 'Authorization: Bearer <key>'.")
            scope.setdefault("state", {})["key"] = key
        await self._app(scope, receive, send)

    def _key(self, scope: Scope) -> ApiKey | None:
        values = header_values(scope, b"authorization")
        scheme, _, key = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
        digest = hashlib.sha256(key.strip()).digest()
        found = [key for known, key in self._keys if hmac.compare_digest(digest, known)]
        return found[0] if found and scheme.lower() == b"bearer" else None


def key_of(request: Request) -> ApiKey:
    """The key of a request to a route that needs one."""
    key: ApiKey = request.state.key
    return key


def route_path(scope: Scope) -> str:
    """The path as the router sees it: without the root path."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :]
    return path
