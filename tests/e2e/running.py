"""Starting and stopping a real server as a user would."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import openai

_START_LIMIT_S = 120.0


@dataclass(frozen=True)
class Server:
    """A running ``quire serve``: where it listens, its process and what it wrote."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def client(self, api_key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=api_key, max_retries=0, timeout=60)

    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=120)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(log: Path, *arguments: str, module: str = "quire", verb: tuple[str, ...] = ("serve",)) -> Server:
    """Run the server in a process of its own and wait until it says that it is healthy."""
    port = free_port()
    command = [sys.executable, "-m", module, *verb, *arguments, "--port", str(port)]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    ends_s = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < ends_s:
        if process.poll() is not None:
            raise AssertionError(f"The server ended with {process.returncode}:\n{log.read_text()}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return Server(url, process, log)
        except (urllib.error.URLError, ConnectionError):
            select.select([], [], [], 0.05)  # Leave the processor to the process that starts.
    process.kill()
    raise AssertionError(f"The server was not ready after {_START_LIMIT_S:.0f} s:\n{log.read_text()}")


def stop(server: Server) -> int:
    server.process.terminate()
    return server.process.wait(20)
