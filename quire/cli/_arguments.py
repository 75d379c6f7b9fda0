"""Parsing for verbs that have few options of their own.

Not here: the engine's options (config/flags.py).
Door: Parser, take_flag, print_help.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Never

from quire.config.flags import help_text, wants_help
from quire.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """Mistakes are errors of Quire: one line, exit code 2."""

    def error(self, message: str) -> Never:
        raise ConfigError(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help.")


def take_flag(arguments: Sequence[str], flag: str) -> tuple[list[str], bool]:
    """The arguments without a bare flag, and whether it was there."""
    return [argument for argument in arguments if argument != flag], flag in arguments


def print_help(prog: str, arguments: Sequence[str], intro: str, *, takes_server: bool = True) -> bool:
    """Print help when it is asked for; whether it was."""
    search = wants_help(arguments)
    if search is None:
        return False
    if not search:
        print(intro.strip() + "\n")
    print(help_text(prog, search, takes_server=takes_server))
    return True
