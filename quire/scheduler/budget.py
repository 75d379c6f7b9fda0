"""How the tokens of a step are shared among prompts.

Not here: decoding rows, which get their one token before.
Door: share, SMALLEST_SHARE.
"""

from __future__ import annotations

from collections.abc import Sequence

SMALLEST_SHARE = 8
"""A share is never below 1/8 of the step: cut finer, all prompts would wait as long as the last one."""


def share(wants: Sequence[int], budget: int, smallest: int, largest: int) -> list[int]:
    """Tokens for each of several prefills, which come in the order of service; their sum is at most ``budget``.

    First round: nobody takes more than an equal part of the budget (or ``smallest``, if that is more); the first in the
    order is asked first, so that it always goes on, then those that want least, so that long prompts do not keep short
    ones waiting. What is left goes to the first that want more. Nobody gets more than ``largest``.
    """
    if not wants:
        return []
    part = max(budget // len(wants), smallest)
    grants = [0] * len(wants)
    for place in (0, *sorted(range(1, len(wants)), key=wants.__getitem__)):
        grants[place] = grant = min(wants[place], part, largest, budget)
        budget -= grant
    for place, want in enumerate(wants):
        extra = min(min(want, largest) - grants[place], budget)
        grants[place] += extra
        budget -= extra
    return grants
