"""A real server with the bundled model, started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.running import Server, start, stop


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start(tmp_path_factory.mktemp("server") / "log", "folio", "--dtype", "float32")
    yield running
    stop(running)
