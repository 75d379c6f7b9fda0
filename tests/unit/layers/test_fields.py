from __future__ import annotations

from pathlib import Path

import pytest

from quire.config.json_fields import Fields
from quire.errors import CheckpointError
from quire.layers.fields import cap, positive, positive_or_none, reals

FIELDS = Fields(Path("config.json"), {"zero": 0, "two": 2, "null": None, "list": [1, 2.5], "infinite": [float("inf")]})


def test_a_positive_number_is_above_zero() -> None:
    assert positive(FIELDS, "two") == 2.0 and positive(FIELDS, "absent", 3.0) == 3.0
    with pytest.raises(CheckpointError, match="zero"):
        positive(FIELDS, "zero")
    with pytest.raises(CheckpointError, match="absent"):
        positive(FIELDS, "absent")


def test_null_means_no_cap_and_absent_means_the_default() -> None:
    assert cap(FIELDS, "null", 30.0) is None and cap(FIELDS, "absent", 30.0) == 30.0 and cap(FIELDS, "two", 30.0) == 2.0
    assert positive_or_none(FIELDS, "null") is None and positive_or_none(FIELDS, "absent") is None


def test_a_list_has_exactly_the_count_of_finite_numbers() -> None:
    assert reals(FIELDS, "list", 2) == [1.0, 2.5]
    for name, count in (("list", 3), ("infinite", 1), ("two", 1), ("absent", 1)):
        with pytest.raises(CheckpointError, match=name):
            reals(FIELDS, name, count)
