"""Types of numbers on a command line; argparse puts what they raise into words.

Door: count, count_or_zero.
"""

from __future__ import annotations

import argparse


def count(text: str) -> int:
    """A whole number of at least 1.

    Raises: ValueError, ArgumentTypeError.
    """
    return _at_least(int(text), 1)


def count_or_zero(text: str) -> int:
    """A whole number of at least 0.

    Raises: ValueError, ArgumentTypeError.
    """
    return _at_least(int(text), 0)


def _at_least(value: int, low: int) -> int:
    if value < low:
        raise argparse.ArgumentTypeError(f"{value} is less than {low}")
    return value
