"""An engine's HTTP server: started until it says that it is well, put under load by a client, held still in between.

The client is ``quire bench serve`` for all, in a process of its own; what of a core it took is in each result.

Not here: which load (parts.py), whose turn it is (serving.py).
Door: ServerProcess, ClientResult.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks.peers.lineup import SERVED_NAME, Server
from benchmarks.peers.process_group import PeerFailed, ProcessGroup

_POLL_S = 0.02


class ClientResult(msgspec.Struct, frozen=True):
    """What the client measured; times in milliseconds. ``client_cpu_s``: its own CPU time while it measured."""

    duration: float
    completed: int
    failed: int
    total_input_tokens: int
    total_output_tokens: int
    request_throughput: float
    output_throughput: float
    median_ttft_ms: float
    p99_ttft_ms: float
    median_tpot_ms: float
    p99_tpot_ms: float
    median_itl_ms: float
    p99_itl_ms: float
    client_cpu_s: float
    max_concurrent_requests: int
    request_goodput: float | None = None


class ServerProcess:
    """A server that is ready, held still. ``ready_s``: from its command to its first 200 on ``/health``.

    Raises: PeerFailed when it ends or is not ready in time.
    """

    def __init__(self, server: Server, environment: Mapping[str, str], log: Path, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._log = log
        self.port = int(server.command[server.command.index("--port") + 1])
        self._group = ProcessGroup(server.command, environment, log)
        try:
            self._wait()
        except BaseException:
            self.end()
            raise
        self.ready_s = time.monotonic() - self._group.begun
        self.ready_mb = self._group.memory_mb()
        self._group.hold()

    def load(self, options: Sequence[str]) -> ClientResult:
        """Put it under load: ``options`` of ``quire bench serve``.

        Raises: PeerFailed when the client fails or takes too long, and when any request fails.
        """
        result = self._log.with_suffix(".result.json")
        result.unlink(missing_ok=True)
        command = [sys.executable, "-m", "quire", "bench", "serve", "--port", str(self.port), "--model", SERVED_NAME]
        command += [*options, "--disable-tqdm", "--save-result"]
        command += ["--result-dir", str(result.parent), "--result-filename", result.name]
        self._group.go_on()
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=self._timeout_s)
        except subprocess.TimeoutExpired:
            raise PeerFailed(self._group.story(f"the load did not end within {self._timeout_s:.0f} s")) from None
        finally:
            self._group.hold()
        if done.returncode or not result.exists():
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise PeerFailed(self._group.story(f"the client failed: {lines[-1] if lines else '(silent)'}"))
        found = msgspec.json.decode(result.read_bytes(), type=ClientResult)
        if found.failed:
            raise PeerFailed(self._group.story(f"{found.failed} of {found.completed + found.failed} requests failed"))
        return found

    def memory_mb(self) -> float:
        """Resident memory of its processes in 1e6 bytes; pages that they share count once."""
        return self._group.memory_mb()

    def end(self) -> None:
        """End it, politely first."""
        self._group.end(ask=signal.SIGTERM)

    def _wait(self) -> None:
        deadline = time.monotonic() + self._timeout_s
        while not self._is_well():
            if self._group.process.poll() is not None:
                raise PeerFailed(self._group.story("its process ended"))
            if time.monotonic() > deadline:
                raise PeerFailed(self._group.story(f"not ready within {self._timeout_s:.0f} s"))
            time.sleep(_POLL_S)

    def _is_well(self) -> bool:
        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            asked.request("GET", "/health")
            return asked.getresponse().status == 200
        except OSError:
            return False
        finally:
            asked.close()


def forget(folder: Path) -> None:
    """Put the folder's files out of the page cache, as far as nobody has them mapped: the next start reads the disk."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError), open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
