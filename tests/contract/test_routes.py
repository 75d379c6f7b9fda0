"""Every file of the shelf server/routes answers its own examples, and every failure has the one shape."""

from __future__ import annotations

from typing import Any

import pytest

from quire import plugins
from quire.config.keys import plain_key
from quire.server.shelf import SHELF, Example
from tests.unit.server.site import MODEL, Site, fault

EVERYTHING_ON: dict[str, Any] = {"has_tokenizer_info": True, "tracks_load": True}
FILES = plugins.names(SHELF)
EXAMPLES = [
    (name, number, example) for name in FILES for number, example in enumerate(plugins.load(SHELF, name).examples)
]


@pytest.mark.parametrize(
    ("name", "number", "example"), EXAMPLES, ids=[f"{name}-{number}" for name, number, _ in EXAMPLES]
)
async def test_an_example_is_answered_as_it_says(name: str, number: int, example: Example) -> None:
    path = example.path.replace("{served}", MODEL)
    answer = await Site(**EVERYTHING_ON).ask(example.method, path, example.body, headers=dict(example.headers))
    assert answer.status_code == example.status, answer.text
    if example.status >= 400:
        assert fault(answer)["message"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_endpoints_and_an_example_for_each(name: str) -> None:
    module = plugins.load(SHELF, name)
    examples = {(example.method, example.path.split("{")[0]) for example in module.examples if example.status == 200}
    for endpoint in module.endpoints:
        assert endpoint.summary.endswith(".")
        for method in endpoint.methods:
            assert (method, endpoint.path.split("{")[0]) in examples


async def test_every_endpoint_is_documented() -> None:
    site = Site(**EVERYTHING_ON)
    paths = (await site.ask("GET", "/openapi.json")).json()["paths"]
    served = {
        (method.lower(), one.path.replace(":path", "")) for one in site.app.state.endpoints for method in one.methods
    }
    assert served == {(method, path) for path, methods in paths.items() for method in methods}


async def test_every_route_but_the_open_ones_needs_a_key() -> None:
    site = Site(keys=(plain_key("sesame"),), **EVERYTHING_ON)
    is_open = {}
    for endpoint in site.app.state.endpoints:
        for method in endpoint.methods:
            path = endpoint.path.replace("{model:path}", MODEL)
            answer = await site.ask(method, path)
            is_open[path] = answer.status_code != 401
            if answer.status_code == 401:
                assert answer.headers["www-authenticate"] == "Bearer"
                assert fault(answer)["type"] == "authentication_error"
    assert {path for path, value in is_open.items() if value} == {
        "/health",
        "/ping",
        "/livez",
        "/readyz",
        "/metrics",
        "/",
        "/console/console.js",
        "/console/console.css",
    }
