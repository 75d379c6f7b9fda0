"""Taking the address of a server, before minutes go into loading what it serves.

Not here: serving (run.py).
Door: listen.
"""

from __future__ import annotations

import errno
import os
import socket
import stat

from quire.errors import ConfigError, PortBusy


def listen(host: str, port: int, uds: str | None = None) -> socket.socket:
    """A socket bound to ``host`` and ``port``, or to the file ``uds``; connections are refused until it is served.

    Raises: PortBusy when somebody listens there, ConfigError when there is no such address or it is not allowed.
    """
    if uds is not None:
        return _on_file(uds)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--host {host} is no address of this machine: {error}.") from None
    # A name such as localhost may have addresses of both families; clients that were told 127.0.0.1 must find it.
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    # So that a port whose last connections are still winding down counts as free.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _refusal(error, host, port) from None
    return listener


def _refusal(error: OSError, host: str, port: int) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return PortBusy(f"Port {port} on {host} is in use; choose another with --port.")
    if isinstance(error, PermissionError):
        return ConfigError(f"Port {port} needs more rights than this user has; choose one above 1023.")
    return ConfigError(f"--host {host} --port {port} cannot be had: {error.strerror}.")


def _on_file(path: str) -> socket.socket:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise ConfigError(f"--uds {path} cannot be had: {error.strerror or error}.") from None
    return listener


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens on; never anything else, and never somebody's."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise ConfigError(f"--uds {path}: there is no folder {folder}.")
    if not os.path.exists(path):
        return
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        raise ConfigError(f"--uds {path}: a file of this name is there, and it is no socket.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            os.unlink(path)
            return
    raise PortBusy(f"The socket {path} is in use; choose another with --uds.")
