"""One connection, fed by hand: what comes before a body is bounded, and what is no HTTP has the shape of errors."""

from __future__ import annotations

import asyncio
import json

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from quire.server import protocol
from quire.server.protocol import MAX_HEAD_BYTES, MAX_URL_BYTES, BoundedProtocol
from tests.unit.server.site import Site

HOST = b"Host: localhost\r\n"


class Transport(asyncio.Transport):
    """Remembers what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False
        self.is_aborted = False
        self.num_unread = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.is_closed = True

    def get_write_buffer_size(self) -> int:
        return self.num_unread

    def abort(self) -> None:
        self.is_aborted = self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 8000)}.get(name, default)

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Connection:
    def __init__(self) -> None:
        config = Config(Site().app, log_config=None, access_log=False, ws="none")
        config.load()
        self.state = ServerState()
        self.transport = Transport()
        self.protocol = BoundedProtocol(config, self.state, {})
        self.protocol.connection_made(self.transport)

    async def send(self, *packets: bytes) -> None:
        for packet in packets:
            self.protocol.data_received(packet)
        while self.state.tasks:
            await asyncio.gather(*self.state.tasks)

    def statuses(self) -> list[int]:
        heads = self.transport.written.split(b"HTTP/1.1 ")[1:]
        return [int(head[:3]) for head in heads]


HEALTH = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.mark.parametrize(
    ("packets", "status"),
    [
        ([b"GET /health HTTP/1.1\r\n" + HOST + b"X: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n"], 431),
        ([b"GET /health HTTP/1.1\r\n" + HOST + b"X: ", *[b"a" * 8192] * 50], 431),
        ([b"GET /health HTTP/1.1\r\n" + HOST, *[b"X: a\r\n"] * 20_000], 431),
        ([b"GET /health HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 101 + b"\r\n"], 431),
        ([b"GET /", *[b"a" * 8192] * 50], 431),
        ([b"GET /" + b"a" * MAX_URL_BYTES + b" HTTP/1.1\r\n" + HOST + b"\r\n"], 414),
        ([b"X" * 65_536 + b" / HTTP/1.1\r\n\r\n"], 400),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 400),
        ([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], 400),
        ([b"GET /health HTTP/9.9\r\n" + HOST + b"\r\n"], 400),
        ([b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n"], 400),
        (
            [b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"],
            400,
        ),
    ],
)
async def test_a_head_out_of_bounds_is_refused_and_the_connection_closed(packets: list[bytes], status: int) -> None:
    connection = Connection()
    await connection.send(*packets, HEALTH)
    assert connection.statuses() == [status]
    assert connection.transport.is_closed
    head, _, body = connection.transport.written.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


async def test_requests_on_one_connection_are_each_measured_by_themselves() -> None:
    connection = Connection()
    long = b"GET /health HTTP/1.1\r\n" + HOST + b"X: " + b"a" * (MAX_HEAD_BYTES - 1000) + b"\r\n\r\n"
    for _ in range(3):
        await connection.send(long[:5000], long[5000:])
    assert connection.statuses() == [200, 200, 200]
    assert not connection.transport.is_closed


async def test_a_body_is_no_part_of_the_head() -> None:
    body = json.dumps({"prompt": "a", "max_tokens": 1, "zz": "x" * (2 * MAX_HEAD_BYTES)}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    connection = Connection()
    await connection.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body, HEALTH)
    assert connection.statuses() == [200, 200]


async def test_a_body_announced_too_large_is_refused_without_asking_for_it() -> None:
    connection = Connection()
    head = b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nExpect: 100-continue\r\n"
    await connection.send(head + b"Content-Length: 99999999\r\n\r\n")
    assert connection.statuses() == [413]
    assert connection.transport.is_closed


POST = b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n"


async def until_closed(connection: Connection) -> None:
    async with asyncio.timeout(5):
        while not connection.transport.is_closed:
            await asyncio.sleep(0)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_S", "BODY_S", "WRITE_S"):
        monkeypatch.setattr(protocol, name, 0.01)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("packets", "statuses"),
    [
        ([], []),
        ([b"GET /hea"], [408]),
        ([b"GET /health HTTP/1.1\r\n" + HOST], [408]),
        ([HEALTH, b"GET /hea"], [200, 408]),
    ],
)
async def test_a_head_that_does_not_become_whole_is_not_waited_for(packets: list[bytes], statuses: list[int]) -> None:
    connection = Connection()
    for packet in packets:
        await connection.send(packet)
    await until_closed(connection)
    assert connection.statuses() == statuses


@pytest.mark.usefixtures("hasty")
async def test_a_body_that_comes_too_slowly_is_refused() -> None:
    connection = Connection()
    connection.protocol.data_received(POST + b"x" * 100)
    await until_closed(connection)
    assert connection.statuses() == [408]
    connection.protocol.connection_lost(None)


async def test_a_body_that_goes_on_coming_is_waited_for() -> None:
    connection = Connection()
    connection.protocol.data_received(POST)
    for _ in range(4):
        connection.protocol.data_received(b" " * 1100)
        connection.protocol._end_body()
        assert not connection.transport.is_closed
    connection.protocol._end_body()
    assert connection.transport.is_closed
    connection.protocol.connection_lost(None)


@pytest.mark.usefixtures("hasty")
async def test_a_client_that_does_not_read_is_cut_off_and_one_that_reads_again_is_not() -> None:
    patient, gone = Connection(), Connection()
    for connection in (patient, gone):
        await connection.send(HEALTH)
        connection.protocol.pause_writing()
    patient.protocol.resume_writing()
    await until_closed(gone)
    assert gone.transport.is_aborted and not patient.transport.is_aborted


async def test_a_client_that_reads_slowly_is_waited_for() -> None:
    connection = Connection()
    await connection.send(HEALTH)
    connection.transport.num_unread = 1000
    connection.protocol.pause_writing()
    connection.transport.num_unread = 900
    connection.protocol._end_reader(1000)
    assert not connection.transport.is_aborted
    connection.protocol._end_reader(900)
    assert connection.transport.is_aborted
    connection.protocol.connection_lost(None)


async def test_a_stray_byte_behind_a_request_does_not_end_its_answer() -> None:
    connection = Connection()
    connection.protocol.data_received(POST.replace(b"5000", b"2") + b"{}")
    connection.protocol.data_received(b"\r\n")
    connection.protocol._end_head()
    assert not connection.transport.is_closed
    connection.protocol.connection_lost(None)
