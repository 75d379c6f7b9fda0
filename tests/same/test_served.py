"""A sample of eight streamed chats through a real server whose engine is killed. All of them are ``make same``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.same.served import served

pytestmark = pytest.mark.xdist_group("killed server")


def test_streams_tell_the_same_alone_together_and_across_a_crash(tmp_path: Path) -> None:
    assert served(8, tmp_path) == []
