"""HTTP/1.1 on a connection, with bounds on what comes before a body, and Quire's own shape for what cannot be parsed.

The bounds hold while reading: what exceeds them is answered and the connection closed, whatever would still come.

Not here: everything after the head of a request (uvicorn's own protocol, app.py). Door: BoundedProtocol.
"""

from __future__ import annotations

from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from quire.errors import InvalidValue, RequestError
from quire.server.faults import fault_bytes

MAX_HEAD_BYTES = 64 * 1024
"""Of the request line and all headers together."""
MAX_HEADERS = 100
MAX_URL_BYTES = 8 * 1024


class HeadTooLarge(RequestError):
    """Too many headers, or too long ones."""

    status = 431
    code = "headers_too_large"


class UrlTooLong(RequestError):
    """Nobody needs such a URL here."""

    status = 414
    code = "url_too_long"


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Invariant: while a head is read, at most ``MAX_HEAD_BYTES`` and one packet of it are kept.

    After a refusal everything that still comes is dropped until the connection is closed.
    """

    _num_head_bytes = 0
    _is_in_head = True
    _is_refused = False
    _has_cycle = False
    """Whether a request of this connection has reached the application, now or before."""

    def data_received(self, data: bytes) -> None:
        """A packet: heads, bodies, or parts of them."""
        if self._is_refused:
            return
        if self._is_in_head:
            self._num_head_bytes += len(data)
        super().data_received(data)
        # A head that ended in this packet was measured when it did.
        if self._is_in_head and self._num_head_bytes > MAX_HEAD_BYTES and not self._is_refused:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._is_in_head = False
        num_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if len(self.url) > MAX_URL_BYTES:
            self._refuse(UrlTooLong(f"The URL has {len(self.url)} bytes; at most {MAX_URL_BYTES} are read."))
        elif num_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._refuse_head()
        elif not self._is_refused:
            self._has_cycle = True
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole; the next head begins."""
        self._is_in_head, self._num_head_bytes = True, 0
        if not self._is_refused:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed, in the shape of every other error."""
        self._refuse(InvalidValue("The request is not HTTP that this server understands."))

    def _refuse_head(self) -> None:
        self._refuse(HeadTooLarge(f"A request's head has at most {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers."))

    def _refuse(self, error: RequestError) -> None:
        """Answer and close; only close where an earlier answer on this connection is not whole yet."""
        if self._is_refused:
            return
        self._is_refused = True
        if not self._has_cycle or self.cycle.response_complete:
            body = fault_bytes(error)
            lines = (
                f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
                "content-type: application/json",
                f"content-length: {len(body)}",
                "connection: close",
            )
            self.transport.write("\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body)
        self.transport.close()
