"""``quire collect-env``: the facts of this machine, to paste into a report of a bug.

Not here: judging them (doctor.py).
"""

from __future__ import annotations

import argparse
import json

from msgspec import to_builtins

from quire.cli._facts import find_facts

HELP = "print the facts of this machine, for a report of a bug"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own flags."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(namespace: argparse.Namespace) -> int:
    """Print the facts."""
    facts = to_builtins(find_facts())
    if namespace.json:
        print(json.dumps(facts, indent=2))
        return 0
    packages = facts.pop("packages")
    for name, value in [*facts.items(), *packages.items()]:
        shown = ", ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else value
        print(f"{name:<18} {'not installed' if shown is None else shown}")
    return 0
