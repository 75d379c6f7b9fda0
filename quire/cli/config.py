"""``quire config explain``: every decided value, where it came from and why.

Not here: the deciding (config/resolve.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from quire.cli._arguments import print_help, take_flag
from quire.config.flags import read_command_line
from quire.config.resolve import resolve
from quire.errors import ConfigError

HELP = "explain every decided value: quire config explain [model] [flags]"

_INTRO = """Print every value that a server with these flags would run with, where it came from and why; --json for
programs.

    quire config explain Qwen/Qwen3-0.6B --max-model-len auto
"""


def run(arguments: Sequence[str]) -> int:
    """Explain, without loading anything."""
    if print_help("quire config explain", arguments, _INTRO):
        return 0
    if not arguments or arguments[0] != "explain":
        raise ConfigError("quire config knows one thing: quire config explain [model] [flags].")
    rest, as_json = take_flag(arguments[1:], "--json")
    decided = resolve(read_command_line(rest, prog="quire config explain"))
    if as_json:
        print(msgspec.json.encode(decided.decisions).decode())
        return 0
    for notice in decided.notices:
        print(f"quire: {notice}", file=sys.stderr)
    name_width = max(len(one.name) for one in decided.decisions)
    value_width = min(32, max(len(one.value) for one in decided.decisions))
    origin_width = max(len(one.origin) for one in decided.decisions)
    for one in decided.decisions:
        print(f"{one.name:<{name_width}}  {one.value:<{value_width}}  {one.origin:<{origin_width}}  {one.reason}")
    return 0
