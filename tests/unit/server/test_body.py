"""Bodies: what is JSON, how large and how deep it may be, and how it must be announced."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.errors import InvalidValue
from quire.server import body as body_module
from quire.server.body import decode
from quire.server.schema.chat import ChatRequest
from tests.unit.server.site import MODEL, Site, Wire, fault

ASK = b'{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1'
HOST = (b"host", b"localhost:8000")
JSON = (b"content-type", b"application/json")

BAD = {
    "truncated": ASK,
    "trailing comma": ASK + b",}",
    "two documents": ASK + b"}" + ASK + b"}",
    "empty": b"",
    "blank": b"  ",
    "array": b"[]",
    "string": b'"x"',
    "number": b"5",
    "null": b"null",
    "invalid UTF-8": ASK + b', "user": "\xff"}',
    "invalid UTF-8 in an unknown field": ASK + b', "zz": "\xff"}',
    "encoded surrogate": ASK + b', "user": "\xed\xa0\x80"}',
    "BOM": b"\xef\xbb\xbf" + ASK + b"}",
    "UTF-16": (ASK + b"}").decode().encode("utf-16"),
    "lone surrogate": ASK + b', "user": "\\ud800"}',
    "lone surrogate in an unknown field": ASK + b', "zz": "\\udc00"}',
    "deep array": ASK + b', "zz": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep object": ASK + b', "zz": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "deep in a template's variables": ASK + b', "chat_template_kwargs": {"a": ' + b"[" * 200 + b"]" * 200 + b"}}",
    "open arrays": b"[" * 100_000,
    "a million digits": ASK + b', "seed": ' + b"9" * 10**6 + b"}",
    "a million digits in an unknown field": ASK + b', "zz": ' + b"9" * 10**6 + b"}",
    "a million digits of a float": ASK + b', "temperature": ' + b"9" * 10**6 + b"}",
    "1e999": ASK + b', "temperature": 1e999}',
    "1e999 in an unknown field": ASK + b', "zz": 1e999}',
    "2**64": ASK + b', "seed": 18446744073709551616}',
    "NaN": ASK + b', "temperature": NaN}',
    "NaN in an unknown field": ASK + b', "zz": NaN}',
    "Infinity": ASK + b', "temperature": Infinity}',
    "-Infinity": ASK + b', "top_p": -Infinity}',
    "a million empty arrays": ASK + b', "zz": [' + b"[]," * 10**6 + b"[]]}",
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
async def test_what_is_no_sound_json_is_refused_and_the_next_request_is_served(body: bytes) -> None:
    site = Site()
    refused = await site.ask("POST", "/v1/chat/completions", body)
    assert refused.status_code == 400, refused.text
    assert fault(refused)["type"] == "invalid_request_error"
    assert (await site.chat()).status_code == 200


async def test_of_equal_keys_the_last_counts() -> None:
    site = Site()
    last = b', "model": "nobody", "model": "' + MODEL.encode() + b'", "seed": 1, "seed": 2}'
    assert (await site.ask("POST", "/v1/chat/completions", ASK + last)).status_code == 200
    assert site.engine.requests[0].sampling.seed == 2
    first = b', "model": "' + MODEL.encode() + b'", "model": "nobody"}'
    assert (await site.ask("POST", "/v1/chat/completions", ASK + first)).status_code == 404


async def test_nul_is_text_and_minus_zero_is_zero() -> None:
    site = Site()
    body = ASK.replace(b"Hello", b"a\\u0000b") + b', "temperature": -0}'
    assert (await site.ask("POST", "/v1/chat/completions", body)).status_code == 200
    assert site.engine.requests[0].sampling.temperature == 0


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"text/plain")],
        [(b"content-type", b"application/x-www-form-urlencoded")],
        [(b"content-type", b"multipart/form-data; boundary=x")],
        [(b"content-type", b"application/jsonx")],
        [(b"content-type", b"application/json; charset=latin-1")],
        [JSON, (b"content-encoding", b"gzip")],
        [JSON, (b"content-encoding", b"deflate, gzip")],
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"])
async def test_another_kind_of_body_is_not_read(path: str, headers: list[tuple[bytes, bytes]]) -> None:
    wire = await Wire(path=path, headers=[HOST, *headers], body=[b"{}"]).run(Site().app)
    assert wire.status == 415
    assert wire.num_read == 0


@pytest.mark.parametrize(
    "kind", [b"application/json", b"application/json; charset=utf-8", b"Application/JSON;charset=UTF-8"]
)
async def test_json_may_be_announced_in_several_ways(kind: bytes) -> None:
    wire = await Wire(headers=[HOST, (b"content-type", kind)], body=[ASK + b"}"]).run(Site().app)
    assert wire.status == 200


@pytest.mark.parametrize("length", [b"1001", b"9" * 30])
async def test_a_body_announced_too_large_is_refused_before_it_is_read(length: bytes) -> None:
    headers = [HOST, JSON, (b"content-length", length), (b"expect", b"100-continue")]
    wire = await Wire(headers=headers, body=[b"x" * 1001]).run(Site(max_body_bytes=1000).app)
    assert (wire.status, wire.num_read) == (413, 0)
    assert wire.headers[b"connection"] == b"close"
    assert b"request_too_large" in wire.body


async def test_a_body_that_grows_too_large_is_refused_while_it_is_read() -> None:
    wire = await Wire(body=[b"x" * 100] * 50).run(Site(max_body_bytes=1000).app)
    assert (wire.status, wire.num_read) == (413, 11)


async def test_a_body_in_many_pieces_is_one_body() -> None:
    body = ASK + b"}"
    wire = await Wire(body=[body[k : k + 1] for k in range(len(body))]).run(Site().app)
    assert wire.status == 200


async def test_a_client_that_leaves_in_the_middle_of_its_body_starts_nothing() -> None:
    site = Site()
    wire = Wire(body=[ASK], is_whole=False)
    wire.gone.set()
    await wire.run(site.app)
    assert (wire.num_read, wire.status) == (1, 499)
    assert site.engine.requests == []


JSONISH = st.recursive(
    st.none() | st.integers(-5, 5) | st.text('[]{}"\\a,:', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\a', max_size=3), inner, max_size=3),
    max_leaves=40,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max((depth(one) for one in value.values()), default=0)
    return 1 + max((depth(one) for one in value), default=0) if isinstance(value, list) else 0


@given(JSONISH, st.booleans())
def test_depth_is_found_without_decoding(value: object, is_ascii: bool) -> None:
    limit, body_module.MAX_DEPTH = body_module.MAX_DEPTH, 3
    try:
        is_refused = False
        body_module._check_shape(json.dumps(value, ensure_ascii=is_ascii).encode())
    except InvalidValue:
        is_refused = True
    finally:
        body_module.MAX_DEPTH = limit
    assert is_refused is (depth(value) > 3)


def test_many_brackets_in_texts_are_no_depth() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": '{"a": [1]} \\"[' * 10_000}]}).encode()
    assert decode(body, ChatRequest).messages[0]["role"] == "user"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "messages"),
        (b'{"messages": [5]}', "messages[0]"),
        (b'{"messages": [], "stream_options": {"include_usage": 5}}', "stream_options.include_usage"),
        (b'{"messages": [], "logit_bias": {"x": 1}}', "logit_bias"),
    ],
)
def test_a_mismatch_names_its_field(body: bytes, param: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        decode(body, ChatRequest)
    assert refused.value.param == param
