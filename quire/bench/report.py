"""Figures on paper: an aligned table for people, lines of JSON for programs.

Not here: figures.
Door: table, machine, append_lines.
"""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from quire.version import __version__


class Machine(Struct, frozen=True):
    """Where and when something was measured."""

    date: str
    system: str
    processor: str
    num_cores: int
    python: str
    quire: str


def machine() -> Machine:
    """This machine, now."""
    return Machine(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        num_cores=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
        quire=__version__,
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the first is flush left, the others flush right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = []
    for row in (header, ["-" * width for width in widths], *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def append_lines(path: str, records: Sequence[Struct | dict[str, object]]) -> None:
    """Add each record to the file as one line of JSON; folders above it are made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        for record in records:
            file.write(msgspec.json.encode(record) + b"\n")


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
