"""A racing engine's process: jobs go in as lines, answers come out as lines.

Not here: holding and ending processes (process_group.py), what it answers (protocol.py), whose turn it is (rounds.py).
Door: PeerProcess, Answer.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from benchmarks.peers.process_group import PeerFailed, ProcessGroup


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
    """One engine, loaded and held still.

    ``start_s``: from the start of its process to its first token; ``start_mb``: its resident memory then.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._group = ProcessGroup(command, environment, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process = self._group.process
        assert process.stdin is not None and process.stdout is not None
        self.pid = process.pid
        self._jobs: IO[bytes] = process.stdin
        self._answers: IO[bytes] = process.stdout
        self._unread = b""
        try:
            self.ready = msgspec.json.decode(self._line(), type=Ready)
        except BaseException:
            self.end()
            raise
        self.start_s = time.monotonic() - self._group.begun
        self._group.hold()
        self.start_mb = self.memory_mb()

    def run(self, prompts: Sequence[Sequence[int]], output_len: int) -> Answer:
        """One job.

        Raises: PeerFailed when it fails, or gives another number of tokens than asked: that time compares with nothing.
        """
        self._group.go_on()
        try:
            self._jobs.write(msgspec.json.encode({"prompts": prompts, "output_len": output_len}) + b"\n")
            self._jobs.flush()
            answer = msgspec.json.decode(self._line(), type=Answer)
        except OSError as error:
            raise PeerFailed(self._group.story(f"it is gone ({error})")) from error
        self._group.hold()
        if answer.error:
            raise PeerFailed(answer.error)
        if [len(ids) for ids in answer.outputs] != [output_len] * len(prompts):
            lengths = sorted({len(ids) for ids in answer.outputs})
            got, asked = f"{len(answer.outputs)} of {lengths}", f"{len(prompts)} of {output_len}"
            raise PeerFailed(f"it gave {got} tokens where {asked} were asked")
        return answer

    def memory_mb(self) -> float:
        """Resident memory of the process and its children in 1e6 bytes; pages that they share count once."""
        return self._group.memory_mb()

    def end(self) -> None:
        """End the process and its children: its input ends, and soon after it does."""
        with contextlib.suppress(OSError):
            self._jobs.close()
        self._group.end()
        self._answers.close()

    def _line(self) -> bytes:
        deadline = time.monotonic() + self._timeout_s
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise PeerFailed(self._group.story(f"no answer within {self._timeout_s:.0f} s"))
            piece = os.read(self._answers.fileno(), 1 << 20)
            if not piece:
                raise PeerFailed(self._group.story("its process ended"))
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line
