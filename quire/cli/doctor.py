"""``quire doctor``: is this machine ready, and what to do where it is not.

Not here: looking (_facts.py).
"""

from __future__ import annotations

import argparse
import json
import socket

from msgspec import Struct

from quire.cli._facts import (
    Facts,
    find_facts,
    openmp_runtimes,
)
from quire.config.units import in_bytes

HELP = "check this machine, and say what is missing and how to get it"

_LEAST_MEMORY = 2 * 2**30
_LEAST_DISK = 5 * 2**30


class Finding(Struct, frozen=True):
    """One line of the report. ``remedy`` is empty when all is well; ``is_fatal``: Quire cannot run so."""

    name: str
    text: str
    remedy: str = ""
    is_fatal: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own flags."""
    parser.add_argument("--json", action="store_true", help="print findings for programs")
    parser.add_argument("--port", type=int, default=8000, help="the port that a server would take (default 8000)")


def run(namespace: argparse.Namespace) -> int:
    """Print the findings; 1 when something keeps Quire from running."""
    findings = examine(find_facts(), is_port_free(namespace.port), namespace.port)
    findings.append(judge_openmp(*openmp_runtimes()))
    if namespace.json:
        print(
            json.dumps([{field: getattr(one, field) for field in one.__struct_fields__} for one in findings], indent=2)
        )
    else:
        for one in findings:
            mark = "ok  " if not one.remedy else "FAIL" if one.is_fatal else "note"
            print(f"{mark} {one.name:<12} {one.text}")
            if one.remedy:
                print(f"     {'':<12} -> {one.remedy}")
    return 1 if any(one.is_fatal for one in findings) else 0


def examine(facts: Facts, port_is_free: bool, port: int) -> list[Finding]:
    """Judge the facts: what is well, what could be better, what is missing."""
    return [
        _python(facts),
        *_packages(facts),
        _processor(facts),
        _threads(facts),
        _kernels(facts),
        _memory(facts),
        _gpu(facts),
        _hub(facts),
        Finding(
            "port", f"{port} is {'free' if port_is_free else 'in use'}", "" if port_is_free else "quire serve --port N"
        ),
        Finding(
            "compiler",
            facts.compiler or "none",
            "" if facts.compiler else "only for building from source: install g++ or clang",
        ),
    ]


def is_port_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def _python(facts: Facts) -> Finding:
    version = tuple(int(part) for part in facts.python.split(".")[:2])
    if version < (3, 11):
        return Finding("python", facts.python, "Quire needs Python 3.11 or newer", is_fatal=True)
    return Finding("python", f"{facts.python} on {facts.system}")


def _packages(facts: Facts) -> list[Finding]:
    findings = []
    for name, version in facts.packages.items():
        if version is None:
            findings.append(Finding(name, "not installed", f"pip install {name}", is_fatal=True))
        elif name == "torch":
            findings.append(Finding("torch", version))
    if len(findings) < 2:
        others = [f"{name} {version}" for name, version in facts.packages.items() if version and name != "torch"]
        findings.append(Finding("packages", ", ".join(others)))
    return findings


def _processor(facts: Facts) -> Finding:
    extensions = ", ".join(facts.extensions) or "no vector extensions known to Quire"
    text = f"{facts.processor}: {facts.num_cores_seen} processors; {extensions}"
    if "x86" in facts.machine and "avx2" not in facts.extensions:
        return Finding("cpu", text, "without AVX2 it works, but slowly; a newer machine or virtual CPU type helps")
    if "bf16" not in facts.extensions and "x86" in facts.machine:
        return Finding(
            "cpu", text, "bfloat16 is emulated on this CPU; --dtype float32 may be faster where memory allows"
        )
    return Finding("cpu", text)


def _threads(facts: Facts) -> Finding:
    """Cores, nodes and quota, and what a worker would be given."""
    nodes = " + ".join(map(str, facts.nodes)) + " cores" if facts.nodes else "cores unknown to /sys"
    quota = f", quota {facts.quota:g} processors" if facts.quota else ", no quota"
    where = f"on processors {','.join(map(str, facts.cpus))}" if facts.cpus else "on any of them"
    text = (
        f"{nodes} in {max(1, len(facts.nodes))} node{'s' if len(facts.nodes) > 1 else ''} of memory{quota}: "
        f"{facts.num_threads} threads ({facts.threads_reason}) {where} ({facts.placement_reason})"
    )
    return Finding("threads", text)


def judge_openmp(is_shared: bool, runtimes: tuple[str, ...]) -> Finding:
    """Whether torch and the kernels compute with the same threads."""
    if not runtimes:
        return Finding("openmp", "unknown: torch or the kernels could not be loaded, or not in two minutes")
    text = ", ".join(runtimes)
    if is_shared:
        return Finding("openmp", f"one pool of threads: {text}")
    return Finding(
        "openmp",
        f"torch and Quire's kernels each have their own threads: {text}",
        "a step loses milliseconds; install torch from PyPI or from download.pytorch.org",
    )


def _kernels(facts: Facts) -> Finding:
    if facts.kernels:
        text = f"Quire's own, for {facts.kernels}"
        if "amx" in facts.extensions:
            text += "; this processor's AMX is used by --linear-backend torch alone (oneDNN), whose last bits may vary"
        return Finding("kernels", text)
    return Finding(
        "kernels",
        "none: torch computes, more slowly",
        "install a C++ compiler and Python's headers, then Quire again",
    )


def _memory(facts: Facts) -> Finding:
    text = f"{in_bytes(facts.available_bytes)} of {in_bytes(facts.total_bytes)} available ({facts.memory_limited_by})"
    if facts.available_bytes < _LEAST_MEMORY:
        return Finding(
            "memory", text, "even a model of 0.5 billion parameters wants 2 GiB; close something or raise the limit"
        )
    return Finding("memory", text)


def _gpu(facts: Facts) -> Finding:
    if not facts.gpus:
        return Finding("gpu", "none found; models run on the CPU")
    return Finding("gpu", f"{'; '.join(facts.gpus)} (not used yet: models run on the CPU)")


def _hub(facts: Facts) -> Finding:
    state = "offline (HF_HUB_OFFLINE)" if facts.is_offline else "downloads allowed"
    text = f"cache {facts.hub_cache}, {in_bytes(facts.disk_bytes)} free, {facts.num_cached} models cached, {state}"
    if facts.disk_bytes < _LEAST_DISK:
        return Finding("hub", text, "downloads may not fit; point HF_HOME at a larger disk or give --download-dir")
    return Finding("hub", text)
