"""Keys, hosts, paths, request ids, methods and what is logged of an exchange."""

from __future__ import annotations

import logging

import pytest

from quire.config.keys import plain_key
from quire.server.access import is_loopback
from quire.server.faults import printable
from tests.unit.server.site import MODEL, Site, Wire, fault

JSON = (b"content-type", b"application/json")
HOST = (b"host", b"localhost:8000")
KEYS = (plain_key("sesame"), plain_key("another"))


@pytest.mark.parametrize("key", ["sesame", "another"])
async def test_each_key_opens(key: str) -> None:
    answer = await Site(keys=KEYS).ask("GET", "/v1/models", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Basic sesame")],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer sesam")],
        [(b"authorization", b"Bearer sesame2")],
        [(b"authorization", b"sesame")],
        [(b"authorization", b"Bearer " + b"x" * 1_000_000)],
        [(b"authorization", b"Bearer s\xc3\xa9same\xff")],
        [(b"authorization", b"Bearer sesame"), (b"authorization", b"Bearer sesame")],
        [(b"x-api-key", b"sesame")],
    ],
)
async def test_anything_else_does_not(headers: list[tuple[bytes, bytes]]) -> None:
    wire = await Wire("GET", "/v1/models", headers=[HOST, *headers]).run(Site(keys=KEYS).app)
    assert wire.status == 401
    assert wire.headers[b"www-authenticate"] == b"Bearer"
    assert b"invalid_api_key" in wire.body


async def test_a_key_in_the_query_does_not_open_and_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = await Site(keys=KEYS, logs_access=True).ask("GET", "/v1/models?api_key=sesame&key=sesame")
    assert answer.status_code == 401
    assert not any("sesame" in record.getMessage() for record in caplog.records if record.name.startswith("quire"))


@pytest.mark.parametrize("path", ["/nowhere", "/v1", "/v2/x", "/admin", "/V1/models"])
async def test_without_a_key_nobody_learns_which_routes_exist(path: str) -> None:
    assert (await Site(keys=KEYS).ask("GET", path)).status_code == 401


SPELLINGS = [
    ("//v1/models", b"//v1/models"),
    ("/v1/../metrics", b"/v1/../metrics"),
    ("/health/../v1/models", b"/health/../v1/models"),
    ("/v1/../metrics", b"/v1/%2e%2e/metrics"),
    ("/v1/models", b"/v1%2fmodels"),
    ("/health", b"/%68ealth"),
    ("/V1/models", b"/V1/models"),
    ("/v1/models;x", b"/v1/models;x"),
    ("/v1/completions/", b"/v1/completions/"),
    ("/health/", b"/health/"),
    ("/v1/models\x00", b"/v1/models%00"),
    ("/v1/models\n", b"/v1/models%0a"),
    ("/health\n", b"/health\n"),
]


@pytest.mark.parametrize(("path", "raw"), SPELLINGS, ids=[str(raw) for _, raw in SPELLINGS])
@pytest.mark.parametrize("has_keys", [False, True])
async def test_other_spellings_of_a_path_are_no_route(path: str, raw: bytes, has_keys: bool) -> None:
    site = Site(keys=KEYS if has_keys else ())
    wire = await Wire("GET", path, headers=[HOST], raw_path=raw).run(site.app)
    assert wire.status in ((401, 404) if has_keys else (404,))
    with_key = await Wire("GET", path, headers=[HOST, (b"authorization", b"Bearer sesame")], raw_path=raw).run(site.app)
    assert with_key.status == 404


async def test_a_model_s_slash_may_be_escaped() -> None:
    escaped = MODEL.replace("/", "%2F").encode()
    wire = await Wire("GET", f"/v1/models/{MODEL}", headers=[HOST], raw_path=b"/v1/models/" + escaped).run(Site().app)
    assert wire.status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"host", b"localhost")], 200),
        ([(b"host", b"LOCALHOST:1")], 200),
        ([(b"host", b"127.0.0.1:8000")], 200),
        ([(b"host", b"[::1]:8000")], 200),
        ([], 400),
        ([HOST, HOST], 400),
        ([(b"host", b"x/v1/chat?")], 400),
        ([(b"host", b"evil.example")], 400),
        ([(b"host", b"localhost.evil.example:8000")], 400),
        ([(b"host", b"localhost:8000:9")], 400),
        ([(b"host", b"")], 400),
    ],
)
async def test_a_loopback_server_answers_to_its_own_names_only(headers: list[tuple[bytes, bytes]], status: int) -> None:
    for keys in ((), KEYS):
        site = Site(keys=keys)
        wire = await Wire("GET", "/v1/models", headers=[*headers, (b"authorization", b"Bearer sesame")]).run(site.app)
        assert wire.status == status


async def test_a_server_that_others_reach_answers_to_any_sound_name() -> None:
    site = Site(host="0.0.0.0")
    assert (await Wire("GET", "/health", headers=[(b"host", b"llm.example:80")]).run(site.app)).status == 200
    assert (await Wire("GET", "/health", headers=[(b"host", b"x/v1?")]).run(site.app)).status == 400
    assert (await Wire("GET", "/health", headers=[(b"host", b"evil")]).run(Site(uds="here.sock").app)).status == 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("127.9.9.9", True),
        ("0.0.0.0", False),
        ("::", False),
        ("x", False),
    ],
)
def test_loopback_is_known_by_name_and_number(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


async def test_another_origin_gets_no_leave() -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    preflight = await Site().ask("OPTIONS", "/v1/chat/completions", headers=headers)
    assert preflight.status_code == 405
    for answer in (preflight, await Site().ask("GET", "/v1/models", headers={"origin": "https://evil.example"})):
        assert not any(name.startswith("access-control") for name in answer.headers)


async def test_an_allowed_origin_gets_leave_without_a_key_and_others_do_not() -> None:
    site = Site(keys=KEYS, allowed_origins=("https://good.example",))
    for origin, status in (("https://good.example", 200), ("https://evil.example", 400)):
        headers = {"origin": origin, "access-control-request-method": "POST"}
        preflight = await site.ask("OPTIONS", "/v1/chat/completions", headers=headers)
        assert preflight.status_code == status
        assert preflight.headers.get("access-control-allow-origin") == (origin if status == 200 else None)
    assert (await site.ask("OPTIONS", "/v1/chat/completions")).status_code == 401
    refused = await site.ask("GET", "/v1/models", headers={"origin": "https://good.example"})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://good.example")


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "FOO", "DELETE", "X" * 65_536])
async def test_a_strange_method_is_refused_and_counted_as_other(method: str) -> None:
    site = Site()
    wire = await Wire(method, "/v1/models", headers=[HOST]).run(site.app)
    assert wire.status == 405
    assert wire.headers[b"allow"]
    counted = "DELETE" if method == "DELETE" else "other"
    assert (
        f'http_requests_total{{handler="/v1/models",method="{counted}",status="4xx"}} 1.0'
        in site.metrics.render().decode()
    )


async def test_ten_thousand_paths_and_models_make_no_series() -> None:
    site = Site()
    for name in ("a", "b"):
        await site.ask("GET", f"/{name}")
        await site.ask("GET", f"/v1/models/{name}")
        await site.chat(model=name)
    before = site.metrics.render().count(b"\n")
    for k in range(50):
        await site.ask("GET", f"/{k}")
        await site.ask("GET", f"/v1/models/{k}")
        await site.chat(model=str(k))
    assert site.metrics.render().count(b"\n") == before


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [
        ([b"abc-1"], True),
        ([b"x" * 128], True),
        ([b"x" * 129], False),
        ([b"x" * 1_000_000], False),
        ([b""], False),
        ([b"a b"], False),
        ([b"a\r\nset-cookie: x"], False),
        ([b"a\xff"], False),
        ([b"same", b"same"], False),
    ],
)
async def test_a_request_id_is_shown_back_when_it_is_sound(sent: list[bytes], is_kept: bool) -> None:
    site = Site(sends_request_id=True)
    headers = [HOST, JSON, *[(b"x-request-id", value) for value in sent]]
    body = b'{"prompt": "a", "max_tokens": 1}'
    wire = await Wire(path="/v1/completions", headers=headers, body=[body]).run(site.app)
    shown = wire.headers[b"x-request-id"]
    assert (shown == sent[0]) is is_kept
    assert len(shown) <= 128
    assert b'"id":"cmpl-' + shown + b'"' in wire.body


async def test_a_client_s_request_id_is_never_a_key_inside() -> None:
    site = Site()
    for _ in range(2):
        await site.ask("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1}, headers={"x-request-id": "twice"})
        await site.complete(request_id="twice")
    ids = [request.id for request in site.engine.requests]
    assert len(set(ids)) == 4
    assert "twice" not in "".join(ids)


async def test_the_header_is_sent_only_on_demand() -> None:
    assert "x-request-id" not in (await Site().ask("GET", "/health")).headers


async def test_an_exchange_is_one_escaped_line_without_the_query(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="quire.server.access"):
        path = "/v1/\x1b[31mred\r\nfake line %s {0}"
        await Wire("GET", path, headers=[HOST], raw_path=b"/v1/x?secret=1").run(Site(logs_access=True).app)
    [record] = [record for record in caplog.records if record.name == "quire.server.access"]
    line = record.getMessage()
    assert not any(ord(character) < 32 for character in line)
    assert "\\x1b" in line
    assert "secret" not in line


async def test_no_content_is_logged_at_the_default_level(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        site = Site(keys=KEYS, logs_access=True)
        async with site.client(headers={"authorization": "Bearer sesame"}) as client:
            await client.post("/v1/completions", json={"prompt": "my darling secret", "max_tokens": 2})
            await client.post("/v1/completions", json={"prompt": "my darling secret", "n": 0})
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "darling" not in text
    assert "sesame" not in text


def test_control_characters_are_escaped_and_length_is_cut() -> None:
    assert printable("a\r\n\x1b\x85\u2028b") == "a\\x0d\\x0a\\x1b\\x85\\x2028b"
    assert len(printable("x" * 1000)) == 201
    assert printable("\ud800") == "\\ud800"


async def test_unknown_routes_and_methods_have_the_shape_of_every_error() -> None:
    missing = await Site().ask("GET", "/nowhere")
    assert (missing.status_code, fault(missing)["type"], fault(missing)["code"]) == (
        404,
        "not_found_error",
        "not_found",
    )
    wrong = await Site().ask("GET", "/v1/completions")
    assert (wrong.status_code, fault(wrong)["type"]) == (405, "invalid_request_error")


@pytest.mark.parametrize("path", ["/debug", "/start_profile", "/collective_rpc", "/sleep", "/abort_requests", "/load"])
async def test_routes_that_are_not_of_this_build_do_not_exist(path: str) -> None:
    assert (await Site().ask("POST", path)).status_code == 404


async def test_docs_can_be_switched_off() -> None:
    assert (await Site(has_docs=False).ask("GET", "/docs")).status_code == 404
    assert (await Site(has_docs=False).ask("GET", "/openapi.json")).status_code == 404
