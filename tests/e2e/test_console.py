"""The page at ``/`` in a real browser: a chat streams, its answer survives the engine, all can be reached."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.browser import Page, browsing, find_browser
from tests.e2e.running import Server, start, stop
from tests.e2e.test_engine_killed import engine_of

pytestmark = [
    pytest.mark.xdist_group("console"),
    pytest.mark.skipif(find_browser() is None, reason="there is no Chromium on this machine"),
]

LAST = "[...document.querySelectorAll('.turn.assistant')].at(-1)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start(tmp_path_factory.mktemp("console") / "log", "folio", "--dtype", "float32")
    yield running
    stop(running)


@pytest.fixture
def page(server: Server, tmp_path: Path) -> Iterator[Page]:
    with browsing(tmp_path) as opened:
        opened.open(server.url)
        opened.wait_until("document.getElementById('health').textContent === 'serving'")
        yield opened


def say(page: Page, text: str, **fields: object) -> None:
    """Fill in the form as typing would, and send it."""
    for name, value in {"message": text, **fields}.items():
        page.value(f"document.getElementById({name!r}).value = {str(value)!r}")
    page.value("document.getElementById('chat').requestSubmit()")


def test_a_message_is_answered_piece_by_piece_and_everything_about_it_can_be_seen(page: Page) -> None:
    say(page, "What is the capital of France?", temperature=0)
    page.wait_until(f"{LAST}?.dataset.ended === 'whole'")
    assert "Paris" in str(page.value(f"{LAST}.querySelector('.text').textContent"))
    page.value(f"{LAST}.querySelector('details').open = true")
    page.wait_until(f"{LAST}.querySelectorAll('.tokens span').length > 5")
    assert "capital" in str(page.value(f"{LAST}.querySelector('.tokens').textContent"))
    explained = str(page.value(f"{LAST}.querySelectorAll('details')[1].textContent"))
    assert "temperature" in explained and "prefill" in explained
    page.wait_until("document.querySelectorAll('#requests tr').length > 0")
    assert page.value("document.querySelectorAll('#requests .bar span').length > 0")
    assert page.value("document.querySelectorAll('#charts polyline').length") == 6
    assert page.problems == []


def test_an_answer_goes_on_when_the_engine_is_killed_in_the_middle(page: Page, server: Server) -> None:
    fields = {"temperature": 0, "max_tokens": 400, "ignore_eos": "true"}
    say(page, "Tell me a story.", **fields)
    page.wait_until(f"{LAST}?.dataset.ended === 'whole'", 60)
    undisturbed = page.value(f"{LAST}.querySelector('.text').textContent")
    page.value("document.getElementById('clear').click()")
    say(page, "Tell me a story.", **fields)
    page.wait_until(f"{LAST}?.querySelector('.text').textContent.length > 5")
    assert page.value(f"{LAST}.dataset.ended") is None
    os.kill(engine_of(server), signal.SIGKILL)
    page.wait_until(f"{LAST}.dataset.ended === 'whole'", 60)
    assert page.value(f"{LAST}.querySelector('.text').textContent") == undisturbed
    page.wait_until("document.querySelector('#facts dd').textContent === '1'")


def test_the_page_has_names_for_everything_and_fits_a_phone(page: Page) -> None:
    nameless = {"textbox", "button", "spinbutton", "combobox", "log", "region", "heading"}
    assert [role for role, name in page.roles() if role in nameless and not name] == []
    page.resize(360, 740)
    assert page.value("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_page_asks_for_the_key_of_a_server_that_has_one(tmp_path: Path) -> None:
    server = start(tmp_path / "log", "folio", "--api-key", "sesame")
    try:
        (tmp_path / "profile").mkdir()
        with browsing(tmp_path / "profile") as page:
            page.open(server.url)
            page.wait_until("!document.getElementById('key-form').hidden")
            page.value("document.getElementById('key').value = 'sesame'")
            page.value("document.getElementById('key-form').requestSubmit()")
            page.wait_until("document.getElementById('health').textContent === 'serving'")
    finally:
        stop(server)


def test_there_is_no_page_where_it_was_turned_off(tmp_path: Path) -> None:
    server = start(tmp_path / "log", "folio", "--no-console")
    try:
        assert httpx.get(f"{server.url}/").status_code == 404
        assert httpx.get(f"{server.url}/console/state").status_code == 404
    finally:
        stop(server)
