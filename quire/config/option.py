"""What an option is: a field of a slice with its default, its bounds and one line of help.

The field is the option: flags (flags.py), YAML keys, keyword arguments of ``LLM`` and ``quire config explain`` are all
derived from it.

Not here: the options themselves (model.py, cache.py, ...), what is made of their values (resolve.py).
Door: option, Option, options_of, accept, read_text.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from typing import Literal, TypeVar

from quire.errors import ConfigError, UnsupportedFlag

Kind = Literal["text", "whole", "count", "real", "truth", "texts", "json", "secret"]
"""``count``: a whole number that people write as 25k or 2G; ``secret``: a text that is never shown, or a bare flag."""

_SUFFIXES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_COUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kmgtKMGT]?)")

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """All that is known of an option but its value.

    ``words``: for a count, words that stand for a number. ``only``: the values that can be had so far; others are
    refused with ``why``. ``notice``: said once when it is given, because it changes nothing.
    """

    name: str
    kind: Kind
    default: object
    help: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    words: tuple[tuple[str, int], ...] = ()
    also: tuple[str, ...] = ()
    only: tuple[object, ...] = ()
    why: str = ""
    notice: str = ""

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


def option(
    default: T,
    help: str,
    *,
    kind: Kind | None = None,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    words: tuple[tuple[str, int], ...] = (),
    also: tuple[str, ...] = (),
    only: tuple[object, ...] = (),
    why: str = "",
    notice: str = "",
) -> T:
    """Declare an option as the default of a dataclass field. ``kind`` follows from the default unless that is None."""
    kinds: dict[type, Kind] = {bool: "truth", int: "whole", float: "real", str: "text", tuple: "texts"}
    declared = Option(
        name="",
        kind=kind or kinds[type(default)],
        default=default,
        help=help,
        unit=unit,
        low=low,
        high=high,
        choices=choices,
        words=words,
        also=also,
        only=only,
        why=why,
        notice=notice,
    )
    return dataclasses.field(default=default, metadata={"option": declared})


def options_of(slice_type: type) -> list[Option]:
    """The options of a slice in their order."""
    found = []
    for field in dataclasses.fields(slice_type):
        declared = field.metadata["option"]
        assert isinstance(declared, Option)
        found.append(dataclasses.replace(declared, name=field.name))
    return found


def read_text(asked: Option, text: str) -> object:
    """The value that a text on the command line stands for.

    Raises: ConfigError when it cannot be read; bounds are checked by accept.
    """
    match asked.kind:
        case "count":
            return _read_count(asked, text)
        case "whole":
            return _number(asked, text, int, "a whole number")
        case "real":
            return _number(asked, text, float, "a number")
        case "truth":
            if text.lower() not in ("true", "false"):
                raise _refusal(asked, text, "true or false")
            return text.lower() == "true"
        case "texts":
            return tuple(_read_json(asked, text, list)) if text.lstrip().startswith("[") else (text,)
        case "json":
            return _read_json(asked, text, dict)
        case _:
            return text


def accept(asked: Option, value: object) -> object:
    """The value, checked against kind, bounds and choices.

    Raises: ConfigError naming the option, the value and what it takes; UnsupportedFlag for a value that is not served
    yet.
    """
    if value is None or (asked.only and value in asked.only and type(value) in {type(one) for one in asked.only}):
        return asked.default if value is None else value
    if isinstance(value, str) and asked.kind not in ("text", "secret"):
        value = read_text(asked, value)
    value = _of_kind(asked, value)
    if asked.only and value not in asked.only:
        raise UnsupportedFlag(f"{asked.flag} {_shown(asked, value)} is not served yet: {asked.why}")
    if asked.choices and value not in asked.choices:
        raise _refusal(asked, value, f"one of {', '.join(asked.choices)}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if asked.words and value in dict(asked.words).values():
            return value
        low = -math.inf if asked.low is None else asked.low
        high = math.inf if asked.high is None else asked.high
        if not low <= value <= high:
            bounds = f"at least {asked.low}" if asked.high is None else f"from {asked.low} to {asked.high}"
            raise _refusal(asked, value, f"a number {bounds}")
    return value


def _of_kind(asked: Option, value: object) -> object:
    match asked.kind:
        case "whole" | "count":
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        case "real":
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
        case "truth":
            if isinstance(value, bool):
                return value
        case "text":
            if isinstance(value, str):
                return value
        case "secret":
            if isinstance(value, str | bool):
                return value
        case "texts":
            if isinstance(value, str):
                return (value,)
            if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
                return tuple(value)
        case "json":
            if isinstance(value, Mapping):
                return dict(value)
    expected = {
        "whole": "a whole number",
        "count": "a whole number",
        "real": "a finite number",
        "truth": "true or false",
        "text": "a text",
        "secret": "a text",
        "texts": "a list of texts",
        "json": "a JSON object",
    }[asked.kind]
    raise _refusal(asked, value, expected)


def _read_count(asked: Option, text: str) -> int:
    words = dict(asked.words)
    if text in words:
        return words[text]
    if text == "-1" and -1 in words.values():
        return -1
    match = _COUNT.fullmatch(text)
    expected = " or ".join(["a number such as 4096, 25.6k (x1000) or 25K (x1024)", *words])
    if match is None:
        raise _refusal(asked, text, expected)
    number, suffix = match.groups()
    if "." in number:
        value = float(number) * _SUFFIXES.get(suffix, 1)
        if suffix not in ("k", "m", "g", "t") or not value.is_integer():
            raise _refusal(asked, text, expected)
        return int(value)
    return int(number) * _SUFFIXES.get(suffix, 1)


def _number(asked: Option, text: str, read: type[int] | type[float], expected: str) -> float:
    try:
        return read(text)
    except ValueError:
        raise _refusal(asked, text, expected) from None


def _read_json(asked: Option, text: str, expected: type[T]) -> T:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, expected):
        raise _refusal(asked, text, "a JSON object" if expected is dict else "a JSON list")
    return value


def _shown(asked: Option, value: object) -> str:
    return "(hidden)" if asked.kind == "secret" else str(value)[:80]


def _refusal(asked: Option, value: object, expected: str) -> ConfigError:
    return ConfigError(f"{asked.flag} takes {expected}; got {_shown(asked, value)!r}.", param=asked.name)
