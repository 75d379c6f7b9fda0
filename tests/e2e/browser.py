"""A headless Chromium, driven over its DevTools protocol: as much as a test of a page needs."""

from __future__ import annotations

import itertools
import json
import select
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from websockets.sync.client import ClientConnection, connect

_START_LIMIT_S = 60.0
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_browser() -> str | None:
    """The path of a Chromium, or None."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


class Page:
    """One tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self.problems: list[str] = []
        """What the page's console and the browser complained of."""
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)
        self.wait_until("document.readyState === 'complete'")

    def resize(self, width: int, height: int) -> None:
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def value(self, expression: str) -> object:
        """What an expression of JavaScript gives, as JSON has it."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer}"
        result = answer["result"]
        assert isinstance(result, dict)
        return result.get("value")

    def wait_until(self, expression: str, seconds: float = 30.0) -> None:
        ends_s = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < ends_s, f"not after {seconds} s: {expression}; the page says {self.problems}"
            select.select([], [], [], 0.02)

    def roles(self) -> list[tuple[str, str]]:
        """Role and name of everything a screen reader is told of."""
        nodes = self._call("Accessibility.getFullAXTree")["nodes"]
        assert isinstance(nodes, list)
        found = [node for node in nodes if not node["ignored"]]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in found]

    def _call(self, method: str, **parameters: object) -> dict[str, object]:
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv(timeout=60))
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, object] = message["result"]
                return result
            self._note(message)

    def _note(self, message: dict[str, dict[str, dict[str, str]]]) -> None:
        method = str(message.get("method"))
        if method == "Runtime.exceptionThrown":
            self.problems.append(str(message["params"]["exceptionDetails"]))
        elif method == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.problems.append(message["params"]["entry"]["text"])


@contextmanager
def browsing(folder: Path) -> Iterator[Page]:
    """A page in a fresh browser whose profile lies in ``folder``."""
    program = find_browser()
    assert program is not None
    command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += ["--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    with (folder / "browser.log").open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink)
    try:
        with connect(_address(folder / "DevToolsActivePort"), max_size=2**24) as connection:
            yield Page(connection)
    finally:
        process.terminate()
        process.wait(20)


def _address(told: Path) -> str:
    ends_s = time.monotonic() + _START_LIMIT_S
    while not told.exists() or not told.read_text():
        assert time.monotonic() < ends_s, "the browser did not start"
        select.select([], [], [], 0.05)
    port = told.read_text().splitlines()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
        tabs = json.load(answer)
    return str(next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"))
