"""A racing engine's process: started, asked, held still while others compute, weighed, ended.

While it is not asked, the process and its children are stopped (SIGSTOP): an engine whose threads spin when idle would
otherwise take cores from the one that computes.

Not here: what it answers (protocol.py), whose turn it is (race.py).
Door: PeerProcess, PeerFailed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec


class PeerFailed(Exception):
    """The engine did not start, did not answer in time, or answered with an error."""


class Ready(msgspec.Struct, frozen=True):
    """What an engine says once its first token has been computed."""

    version: str
    settings: dict[str, object]


class Answer(msgspec.Struct, frozen=True):
    """A job's result: seconds and token ids, or an error."""

    seconds: float = 0.0
    outputs: list[list[int]] = []
    error: str = ""


class PeerProcess:
    """One engine, loaded and held still. ``start_s``: from the start of its process to its first token."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, timeout_s: float) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log, self._timeout_s = log, timeout_s
        begun = time.monotonic()
        with open(log, "wb") as errors:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(environment),
                start_new_session=True,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._jobs: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout
        self._unread = b""
        try:
            self.ready = msgspec.json.decode(self._line(), type=Ready)
        except BaseException:
            self.end()
            raise
        self.start_s = time.monotonic() - begun
        self._hold()

    def run(self, prompts: Sequence[Sequence[int]], output_len: int) -> Answer:
        """One job.

        Raises: PeerFailed when it fails, or gives another number of tokens than asked: that time compares with nothing.
        """
        self._signal(signal.SIGCONT)
        try:
            self._jobs.write(msgspec.json.encode({"prompts": prompts, "output_len": output_len}) + b"\n")
            self._jobs.flush()
            answer = msgspec.json.decode(self._line(), type=Answer)
        except OSError as error:
            raise PeerFailed(self._story(f"it is gone ({error})")) from error
        self._hold()
        if answer.error:
            raise PeerFailed(answer.error)
        if [len(ids) for ids in answer.outputs] != [output_len] * len(prompts):
            lengths = sorted({len(ids) for ids in answer.outputs})
            got, asked = f"{len(answer.outputs)} of {lengths}", f"{len(prompts)} of {output_len}"
            raise PeerFailed(f"it gave {got} tokens where {asked} were asked")
        return answer

    def memory_mb(self) -> float:
        """Resident memory of the process and its children in 1e6 bytes; pages that they share count once."""
        return sum(_resident_kb(pid) for pid in self._processes()) * 1024 / 1e6

    def end(self) -> None:
        """End the process and its children."""
        with contextlib.suppress(OSError):
            self._jobs.close()
        self._signal(signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._signal(signal.SIGKILL)  # children that outlived it, or all of them
        self._process.wait()
        self._answers.close()

    def _hold(self) -> None:
        """Stop it, and see it stopped (or ended) before anybody else computes."""
        self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _processes(self) -> list[int]:
        """Every process of the engine's session, which is what it and its children are in."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    if os.getsid(int(entry)) == self._process.pid:
                        found.append(int(entry))
        return found

    def _line(self) -> bytes:
        deadline = time.monotonic() + self._timeout_s
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise PeerFailed(self._story(f"no answer within {self._timeout_s:.0f} s"))
            piece = os.read(self._answers.fileno(), 1 << 20)
            if not piece:
                raise PeerFailed(self._story("its process ended"))
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _story(self, what: str) -> str:
        """What happened, and the log's last line."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"{what}; {self._log.name} ends: {lines[-1].strip() if lines else '(empty)'}"


def _resident_kb(pid: int) -> int:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
