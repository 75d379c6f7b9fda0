from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from quire.cli import MISTAKE, main
from quire.config.root import Decided
from tests.unit.config.checkpoints import write_checkpoint


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Decided]:
    """An assemble whose server only writes down what it was to serve."""
    seen: list[Decided] = []

    def serve(decided: Decided, listener: socket.socket) -> int:
        seen.append(decided)
        return 7

    fake = ModuleType("quire.assemble")
    vars(fake)["serve"] = serve
    monkeypatch.setitem(sys.modules, "quire.assemble", fake)
    monkeypatch.setattr("quire.assemble", fake, raising=False)
    return seen


def test_a_busy_port_is_refused_before_anything_is_loaded(taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "./no/such/model", "--port", str(taken)]) == MISTAKE
    expected = f"quire: Port {taken} on 127.0.0.1 is in use; choose another with --port.\n"
    assert capsys.readouterr().err == expected


def test_the_server_gets_what_was_decided_and_its_code_is_the_exit_code(
    served: list[Decided], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_checkpoint(tmp_path)
    arguments = ["--load-format", "dummy", "--port", "0", "--max-model-len", "1K", "--trust-remote-code"]
    assert main(["serve", str(folder), *arguments]) == 7
    assert served[0].scheduler.max_model_len == 1024
    assert capsys.readouterr().err.startswith("quire: --trust-remote-code changes nothing")
