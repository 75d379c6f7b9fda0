"""Taking a server's address."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from quire.errors import ConfigError, PortBusy
from quire.server.listen import listen


def test_a_free_port_is_taken_and_free_again_afterwards() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    with listen("localhost", port) as listener:
        assert listener.getsockname()[1] == port


def test_a_name_with_addresses_of_both_families_is_found_at_127_0_0_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_both(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", of_both)
    with listen("localhost", 0) as listener:
        assert listener.family == socket.AF_INET


def test_a_port_on_which_somebody_listens_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortBusy, match=rf"Port {port} on 127\.0\.0\.1 is in use; choose another with --port\."):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(("host", "message"), [("192.0.2.1", r"--host 192\.0\.2\.1"), ("a" * 300, "no address")])
def test_an_address_of_another_machine_is_refused(host: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        listen(host, 0)


def test_a_socket_file_must_be_free_and_a_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with listen("", 0, path) as listener:
        listener.listen()
        with pytest.raises(PortBusy, match="--uds"):
            listen("", 0, path)
    listen("", 0, path).close()  # The listener is gone and its file was left: it is taken over.
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="no socket"):
        listen("", 0, str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="no folder"):
        listen("", 0, str(tmp_path / "none" / "s"))
