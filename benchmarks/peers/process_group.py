"""The processes of one engine: started, held still while others compute, weighed, ended.

While it is not asked, an engine and its children are stopped (SIGSTOP): one whose threads spin when idle would
otherwise take cores from the one that computes.

Not here: what is said to it (peer_process.py, server_process.py).
Door: ProcessGroup, PeerFailed, clear_cache.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO


class PeerFailed(Exception):
    """The engine did not start, did not answer in time, or answered with an error."""


class ProcessGroup:
    """A process, its children, and the file that takes what it writes. ``begun``: when it was started (monotonic)."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | None = None,
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        self.begun = time.monotonic()
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                list(command),
                stdin=stdin,
                stdout=file if stdout is None else stdout,
                stderr=file,
                env=dict(environment),
                start_new_session=True,
            )

    def hold(self) -> None:
        """Stop it, and see it stopped (or ended) before anybody else computes."""
        self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def go_on(self) -> None:
        """Let it compute again."""
        self._signal(signal.SIGCONT)

    def memory_mb(self) -> float:
        """Resident memory of the process and its children in 1e6 bytes; pages that they share count once."""
        return sum(_resident_kb(pid) for pid in self._processes()) * 1024 / 1e6

    def end(self, *, asked_s: float = 10.0, ask: signal.Signals | None = None) -> None:
        """End the process and its children: ``ask`` first, if given, and after ``asked_s`` seconds without asking."""
        self.go_on()
        if ask is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(ask)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=asked_s)
        self._signal(signal.SIGKILL)  # children that outlived it, or all of them
        self.process.wait()

    def story(self, what: str) -> str:
        """What happened, and the log's last line."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"{what}; {self._log.name} ends: {lines[-1].strip() if lines else '(empty)'}"

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def _processes(self) -> list[int]:
        """Every process of the engine's session, which is what it and its children are in."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    if os.getsid(int(entry)) == self.process.pid:
                        found.append(int(entry))
        return found


def clear_cache(environment: Mapping[str, str], variable: str, log: Path) -> bool:
    """Empty the folder of compiled programs that the variable names, if that may help; whether it was done.

    A start that was killed while it compiled leaves half a program there, on which every later start fails, with an
    error in its log. A start that was only slow has none, and its cache may be good.
    """
    folder = Path(environment.get(variable, "")) if variable else None
    if folder is None or not folder.is_dir():
        return False
    if "Traceback (most recent call last)" not in log.read_text(encoding="utf-8", errors="replace"):
        return False
    shutil.rmtree(folder)
    return True


def _resident_kb(pid: int) -> int:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
