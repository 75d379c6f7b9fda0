"""Threads and memory are settled in processes of their own: what is set stays set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from quire.ops.native import find_native
from quire.worker import threads

SETTLE = """
import ctypes, os, platform, sys
from types import SimpleNamespace
import torch
from quire.worker.threads import settle_threads
allowed = sorted(os.sched_getaffinity(0))
settle_threads(SimpleNamespace(cpus=tuple(allowed[:1]), memory_nodes={nodes}, num_threads=1))
mode = ctypes.c_int(-1)
number = {{"x86_64": 239, "aarch64": 236}}[platform.machine()]
done = ctypes.CDLL(None).syscall(number, ctypes.byref(mode), None, ctypes.c_ulong(0), None, ctypes.c_ulong(0))
print(len(os.sched_getaffinity(0)), torch.get_num_threads(), mode.value if done == 0 else "unknown")
"""


@pytest.mark.parametrize(("nodes", "mode"), [("()", "0"), ("(0,)", "1")])
def test_a_worker_keeps_to_its_processors_and_prefers_its_memory(nodes: str, mode: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SETTLE.format(nodes=nodes)], capture_output=True, text=True, check=True
    )
    cpus, num_threads, found = done.stdout.split()
    assert (cpus, num_threads) == ("1", "1")
    # Containers may forbid both questions about memory; then the worker says so.
    assert found == mode or "does not let this process choose" in done.stderr or found == "unknown"


@pytest.mark.skipif(find_native() is None, reason="Quire was built without its native kernels")
def test_torch_and_the_kernels_share_one_runtime() -> None:
    assert threads.shares_threads()
    assert len(threads.loaded_runtimes()) >= 1


def test_kernels_with_threads_of_their_own_are_noticed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(threads, "find_native", lambda: SimpleNamespace(num_threads=lambda: 17))
    monkeypatch.setattr(os, "sched_setaffinity", lambda *arguments: pytest.fail("nothing was to be bound"))
    threads.settle_threads(SimpleNamespace(cpus=(), memory_nodes=(), num_threads=1))  # type: ignore[arg-type]
    assert "do not share an OpenMP runtime" in caplog.text


def test_without_kernels_there_is_nothing_to_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "find_native", lambda: None)
    assert threads.shares_threads()


def test_runtimes_are_found_among_what_is_mapped(tmp_path: Path) -> None:
    line = "7f00-7f01 r-xp 00000000 08:01 42 {}\n"
    names = ("/x/libgomp.so.1", "/x/libgomp.so.1", "/y/libiomp5.so", "/y/libc.so.6", "/z/lib gomp")
    (tmp_path / "maps").write_text("7f00-7f01 rw-p 00000000 00:00 0\n" + "".join(map(line.format, names)))
    assert threads.loaded_runtimes(tmp_path / "maps") == ["/x/libgomp.so.1", "/y/libiomp5.so"]


def test_what_doctor_asks_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-m", "quire.worker.threads"], capture_output=True, text=True, check=True)
    state, *paths = done.stdout.split()
    assert state == "shared" and all(Path(path).exists() for path in paths)
