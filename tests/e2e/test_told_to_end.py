"""A server that is told to end: what is under way gets an answer, nothing is left, and the exit code says why."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import httpx
import pytest

from tests.e2e.running import Server, start

pytestmark = pytest.mark.xdist_group("told to end")


def engine_of(server: Server) -> int:
    """A descriptor that becomes readable when the server's only child ends."""
    pid = server.process.pid
    [engine] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return os.pidfd_open(int(engine))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_requests_under_way_end_with_an_error_and_the_engine_ends_too(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    server = start(tmp_path / "log", "folio", "--max-num-seqs", "2")
    engine = engine_of(server)
    body = {"prompt": "On and on", "max_tokens": 2000, "ignore_eos": True, "stream": True}
    try:
        with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            server.process.send_signal(number)
            told = "Told to end"
            while told not in server.log.read_text():
                next(lines)
            server.process.send_signal(number)
            rest = [line for line in lines if line]
        assert '"message":"The server is shutting down."' in rest[-2]
        assert rest[-1] == "data: [DONE]"
        assert server.process.wait(20) == code
        ended, _, _ = select.select([engine], [], [], 0)
        assert ended, "the engine outlives its server"
        assert "Traceback" not in server.log.read_text()
    finally:
        os.close(engine)
        server.process.kill()


def test_a_server_without_a_grace_ends_requests_at_once(tmp_path: Path) -> None:
    server = start(tmp_path / "log", "folio", "--shutdown-timeout", "0")
    body = {"prompt": "On and on", "max_tokens": 2000, "ignore_eos": True, "stream": True}
    try:
        with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            server.process.terminate()
            rest = [line for line in lines if line]
        assert '"message":"The server is shutting down."' in rest[-2]
        assert server.process.wait(20) == 143
    finally:
        server.process.kill()


def test_processes_say_in_their_title_what_they_are(tmp_path: Path) -> None:
    server = start(tmp_path / "log", "folio")
    try:
        pid = server.process.pid
        [engine] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        titles = [Path(f"/proc/{one}/cmdline").read_bytes().rstrip(b"\0") for one in (pid, engine)]
        assert titles == [b"quire front", b"quire engine"]
    finally:
        server.process.terminate()
        server.process.wait(20)
