"""A JSON file that nobody vouched for, read field by field: every number has bounds, every kind is checked.

Not here: what the fields mean (card.py, generation.py).
Door: read_json, Fields.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from quire.errors import CheckpointError

MAX_FILE_BYTES = 64 * 1024 * 1024


def read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file.

    Raises: CheckpointError when the file cannot be read, is larger than 64 MiB, is no JSON, or holds no object.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise CheckpointError(
                f"{path}: {size} bytes is too large for a configuration; at most {MAX_FILE_BYTES} are read."
            )
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: is not valid JSON: {reason}.") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: holds a {type(found).__name__} where an object was expected.")
    return found


class Fields:
    """The fields of one JSON object. A field that is null counts as absent."""

    def __init__(self, file: Path, values: Mapping[str, object]) -> None:
        self.file = file
        self.values = values

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(name) is not None

    def refuse(self, name: str, expected: str) -> CheckpointError:
        """The error that says what the field holds and what was expected."""
        shown = repr(self.values.get(name))
        return CheckpointError(f"{self.file}: {name} is {shown[:80]}; expected {expected}.")

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """An integer within the bounds.

        Raises: CheckpointError when it is anything else, or absent without a default.
        """
        value = self.values.get(name)
        if value is None:
            value = default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.refuse(name, f"a whole number from {low} to {high}")
        return value

    def real(self, name: str, low: float, high: float, default: float | None = None) -> float:
        """A finite number within the bounds.

        Raises: CheckpointError when it is anything else, or absent without a default.
        """
        value = self.values.get(name)
        if value is None:
            value = default
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or not low <= value <= high
        ):
            raise self.refuse(name, f"a number from {low} to {high}")
        return float(value)

    def truth(self, name: str, default: bool) -> bool:
        """True or false.

        Raises: CheckpointError when it is anything else.
        """
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(name, "true or false")
        return value

    def text(self, name: str, default: str = "") -> str:
        """A string.

        Raises: CheckpointError when it is anything else.
        """
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.refuse(name, "a string")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; empty when absent.

        Raises: CheckpointError when it is anything else.
        """
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.refuse(name, "a list of strings")
        return tuple(value)

    def inner(self, name: str) -> Fields | None:
        """The fields of an object inside; None when absent.

        Raises: CheckpointError when it is anything else.
        """
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.refuse(name, "an object")
        return Fields(self.file, value)

    def ids(self, name: str, end: int) -> tuple[int, ...]:
        """Token ids, one or a list, each in [0, end); empty when absent.

        Raises: CheckpointError when it is anything else.
        """
        value = self.values.get(name)
        if value is None:
            return ()
        listed = value if isinstance(value, list) else [value]
        if len(listed) > 1024 or not all(
            isinstance(one, int) and not isinstance(one, bool) and 0 <= one < end for one in listed
        ):
            raise self.refuse(name, f"token ids from 0 to {end - 1}")
        return tuple(dict.fromkeys(listed))
