"""HTTP/1.1 on a connection, with bounds on what comes before a body and on how slowly a client may send and read, and
Quire's own shape for what cannot be parsed.

The bounds hold while reading: what exceeds them is answered and the connection closed, whatever would still come.

Not here: everything after the head of a request (uvicorn's own protocol, app.py). Door: BoundedProtocol.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from quire.errors import InvalidValue, RequestError
from quire.server.faults import fault_bytes

MAX_HEAD_BYTES = 64 * 1024
"""Of the request line and all headers together."""
MAX_HEADERS = 100
MAX_URL_BYTES = 8 * 1024
HEAD_S = 10.0
"""For a whole head, from the connection or from the first byte of a further request on it."""
BODY_S = 10.0
MIN_BODY_BYTES = 1024
"""So many bytes of a body come in each BODY_S, or the rest of it."""
WRITE_S = 60.0
"""A client that reads nothing for so long, while there is more for it than the system keeps, is gone."""


class HeadTooLarge(RequestError):
    """Too many headers, or too long ones."""

    status = 431
    code = "headers_too_large"


class TooSlow(RequestError):
    """The client sends too slowly."""

    status = 408
    code = "request_timeout"


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
    _sending: asyncio.TimerHandle | None = None
    """Ends the wait for the rest of a head, or for the next part of a body."""
    _num_body_bytes = 0
    """Since that wait began."""
    _reading: asyncio.TimerHandle | None = None
    """Ends the wait for the client to read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there; it has something to say, or goes."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._await_nothing()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        super().resume_writing()

    def _await_reader(self) -> None:
        self._reading = self.loop.call_later(WRITE_S, self._end_reader, self.transport.get_write_buffer_size())

    def _end_reader(self, num_unread: int) -> None:
        if self.transport.get_write_buffer_size() < num_unread:
            self._await_reader()
        else:
            self.transport.abort()

    def _await_nothing(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _await_head(self) -> None:
        self._await_nothing()
        self._sending = self.loop.call_later(HEAD_S, self._end_head)

    def _await_body(self) -> None:
        self._await_nothing()
        self._num_body_bytes = 0
        self._sending = self.loop.call_later(BODY_S, self._end_body)

    def _end_head(self) -> None:
        if self._has_cycle and not self.cycle.response_complete:
            self._await_head()  # An answer is under way, which a stray byte behind its request shall not end.
        elif self._num_head_bytes:
            self._refuse(TooSlow(f"The head of the request was not whole after {HEAD_S:.0f} s."))
        else:
            self.transport.close()

    def _end_body(self) -> None:
        # While the application does not take what has come, nothing more is read of the socket.
        if self._num_body_bytes >= MIN_BODY_BYTES or self.flow.read_paused:
            self._await_body()
        else:
            self._refuse(TooSlow(f"Less than {MIN_BODY_BYTES} bytes of the body came in {BODY_S:.0f} s."))

    def data_received(self, data: bytes) -> None:
        """A packet: heads, bodies, or parts of them."""
        if self._is_refused:
            return
        if self._is_in_head:
            if self._sending is None:
                self._await_head()
            self._num_head_bytes += len(data)
        super().data_received(data)
        # A head that ended in this packet was measured when it did.
        if self._is_in_head and self._num_head_bytes > MAX_HEAD_BYTES and not self._is_refused:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._is_in_head = False
        self._await_body()
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
        self._num_body_bytes += len(body)
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole; the next head begins, when it comes."""
        self._is_in_head, self._num_head_bytes = True, 0
        self._await_nothing()
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
        self._await_nothing()
        is_free = not self._has_cycle or self.cycle.response_complete
        if is_free or not (self.cycle.response_started or self.pipeline):
            body = fault_bytes(error)
            lines = (
                f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
                "content-type: application/json",
                f"content-length: {len(body)}",
                "connection: close",
            )
            self.transport.write("\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body)
        self.transport.close()
