"""Every number, length and count that a client controls, with its bounds, in one table; and the checks that read it.

Bounds that depend on the model or the operator (vocabulary, context, max_logprobs, max_n) are in TextConfig. Here are
the others.

Not here: rules between fields (validate.py).
Door: LIMITS, COUNTS, checked_float, checked_int, checked_ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeGuard

from quire.errors import InvalidValue


class Bounds(NamedTuple):
    """Both ends belong to the range, but ``low`` only if ``takes_low``."""

    low: float
    high: float
    takes_low: bool = True


LIMITS = {
    "temperature": Bounds(0.0, 2.0),
    "top_p": Bounds(0.0, 1.0, takes_low=False),
    "min_p": Bounds(0.0, 1.0),
    "presence_penalty": Bounds(-2.0, 2.0),
    "frequency_penalty": Bounds(-2.0, 2.0),
    # Outside, products with logits leave the range of float32.
    "repetition_penalty": Bounds(0.01, 100.0),
    "top_k": Bounds(-1, 2**31 - 1),
    "seed": Bounds(-(2**63), 2**63 - 1),
    "priority": Bounds(-(2**63), 2**63 - 1),
    "max_tokens": Bounds(1, 2**31 - 1),
    "min_tokens": Bounds(0, 2**31 - 1),
    "truncate_prompt_tokens": Bounds(-1, 2**31 - 1),
    "logit_bias": Bounds(-100.0, 100.0),
    "timeout": Bounds(0.0, 86400.0, takes_low=False),
}

COUNTS = {
    "stop": 16,
    "stop_token_ids": 1024,
    "logit_bias": 1024,
    "logprob_token_ids": 128,
    "bad_words": 128,
    "logits_processors": 16,
}
MAX_STOP_CHARS = 1024
MAX_BAD_WORD_CHARS = 1024
MAX_BAD_WORD_TOKENS = 1024
"""Of all bad words of a request together."""
MAX_PROMPT_LOGPROBS = 2_800_000
"""Of all positions of a prompt together. They travel as one message, at most 23 bytes each: see core/wire.py."""
MAX_SALT_CHARS = 128
GREEDY_BELOW = 1e-5

_SALT = re.compile(r"[!-~]{1,128}", re.ASCII)


def shown(value: object) -> str:
    """A value in a message: short, whatever the client sent."""
    return repr(value)[:60] if isinstance(value, int | float | str | None) else type(value).__name__


def checked_float(name: str, value: object, bounds: Bounds | None = None) -> float:
    """The value as a float inside its bounds; a NaN is outside of all.

    Raises: InvalidValue, which names the field, its bounds and the value.
    """
    low, high, takes_low = bounds or LIMITS[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValue(f"{name} must be a number, got {shown(value)}.", param=name)
    is_inside = low <= value <= high and (takes_low or value > low)
    if not is_inside:
        kind = "between" if takes_low else "above"
        joint = "and" if takes_low else "and at most"
        raise InvalidValue(f"{name} must be {kind} {low:g} {joint} {high:g}, got {shown(value)}.", param=name)
    return float(value)


def checked_int(name: str, value: object, low: int | None = None, high: int | None = None) -> int:
    """The value as an integer inside its bounds (those of the table where none are given); True and 1.0 are no
    integers.

    Raises: InvalidValue, which names the field, its bounds and the value.
    """
    if low is None or high is None:
        low, high = int(LIMITS[name].low), int(LIMITS[name].high)
    if type(value) is not int:
        raise InvalidValue(f"{name} must be an integer, got {shown(value)}.", param=name)
    if not low <= value <= high:
        raise InvalidValue(f"{name} must be between {low} and {high}, got {shown(value)}.", param=name)
    return value


def checked_bool(name: str, value: object) -> bool:
    """The value if it is True or False.

    Raises: InvalidValue.
    """
    if not isinstance(value, bool):
        raise InvalidValue(f"{name} must be true or false, got {shown(value)}.", param=name)
    return value


def checked_list(name: str, value: object, most: int | None = None) -> Sequence[object]:
    """The value if it is a list (or tuple) of at most so many entries.

    Raises: InvalidValue.
    """
    if not isinstance(value, list | tuple):
        raise InvalidValue(f"{name} must be a list, got {shown(value)}.", param=name)
    most = COUNTS[name] if most is None else most
    if len(value) > most:
        raise InvalidValue(f"{name} may hold at most {most} entries, got {len(value)}.", param=name)
    return value


def checked_ids(name: str, ids: Iterable[object], vocab_size: int) -> tuple[int, ...]:
    """Token ids of the vocabulary.

    Raises: InvalidValue, which names the first id that is none.
    """
    given = tuple(ids)
    if not _are_integers(given):
        wrong = next(id for id in given if type(id) is not int)
        raise InvalidValue(f"{name} must hold token ids (integers), got {shown(wrong)}.", param=name)
    if given and not (min(given) >= 0 and max(given) < vocab_size):
        outside = next(id for id in given if not 0 <= id < vocab_size)
        raise InvalidValue(
            f"{name} must hold ids between 0 and {vocab_size - 1} (the vocabulary), got {shown(outside)}.", param=name
        )
    return given


def _are_integers(values: tuple[object, ...]) -> TypeGuard[tuple[int, ...]]:
    """A prompt may have a million ids; this takes some milliseconds of them."""
    return set(map(type, values)) <= {int}


def checked_salt(salt: object) -> str:
    """A salt of the prefix cache: printable ASCII without ``@``, ``/`` and backslash; empty for none.

    Raises: InvalidValue.
    """
    if salt == "":
        return ""
    if not isinstance(salt, str) or not _SALT.fullmatch(salt) or any(char in salt for char in "@/\\"):
        raise InvalidValue(
            f"cache_salt must have 1 to {MAX_SALT_CHARS} printable ASCII characters without @, / and \\.",
            param="cache_salt",
        )
    return salt
