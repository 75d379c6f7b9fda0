"""Requests that are wrong in every documented way get their documented answer, and the server goes on as before."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.e2e.running import Server

pytestmark = pytest.mark.xdist_group("server")

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
JSON = {"Content-Type": "application/json"}
HELLO = [{"role": "user", "content": "Hello"}]

RAW: list[tuple[str, bytes, dict[str, str], int]] = [
    ("F1 truncated JSON", b'{"model": "folio", "messages": [', JSON, 400),
    ("F1 trailing comma", b'{"prompt": "a",}', JSON, 400),
    ("F1 two documents", b'{"prompt": "a"}{"prompt": "b"}', JSON, 400),
    ("F1 no body", b"", JSON, 400),
    ("F2 an array", b"[]", JSON, 400),
    ("F2 null", b"null", JSON, 400),
    ("F4 not UTF-8", b'{"prompt": "\xff\xfe"}', JSON, 400),
    ("F4 a byte order mark", b'\xef\xbb\xbf{"prompt": "a"}', JSON, 400),
    ("F4 half a surrogate pair", b'{"prompt": "\\ud800"}', JSON, 400),
    ("F5 nested a hundred thousand deep", b"[" * 100_000, JSON, 400),
    ("F6 an integer of a million digits", b'{"prompt": "a", "seed": ' + b"9" * 1_000_000 + b"}", JSON, 400),
    ("F6 an infinite float", b'{"prompt": "a", "temperature": 1e999}', JSON, 400),
    ("F7 NaN", b'{"prompt": "a", "temperature": NaN}', JSON, 400),
    ("F8 a form", b"prompt=a", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ("F8 no type", b'{"prompt": "a"}', {}, 415),
]

FIELDS: list[tuple[str, str, dict[str, object], int]] = [
    ("F40 a knob of the engine", COMPLETIONS, {"prompt": "a", "kv_transfer_params": {"do_remote_decode": True}}, 400),
    ("F41 another model", COMPLETIONS, {"model": "../../etc/passwd", "prompt": "a"}, 404),
    ("F42 no messages", CHAT, {"messages": []}, 400),
    ("F42 messages missing", CHAT, {}, 400),
    ("F43 content of a wrong type", CHAT, {"messages": [{"role": "user", "content": 7}]}, 400),
    ("F43 no role", CHAT, {"messages": [{"content": "a"}]}, 400),
    ("F44 an empty prompt", COMPLETIONS, {"prompt": ""}, 400),
    ("F45 an empty list", COMPLETIONS, {"prompt": []}, 400),
    ("F45 a list of empty lists", COMPLETIONS, {"prompt": [[]]}, 400),
    ("F45 a mixed list", COMPLETIONS, {"prompt": ["a", 1]}, 400),
    ("F46 too many prompts", COMPLETIONS, {"prompt": ["a"] * 1025}, 400),
    ("F47 a negative id", COMPLETIONS, {"prompt": [-1]}, 400),
    ("F47 an id beyond the vocabulary", COMPLETIONS, {"prompt": [10**6]}, 400),
    ("F47 a huge id", COMPLETIONS, {"prompt": [2**63]}, 400),
    ("F47 a stop id beyond the vocabulary", COMPLETIONS, {"prompt": "a", "stop_token_ids": [10**6]}, 400),
    ("F47 a bias beyond the vocabulary", COMPLETIONS, {"prompt": "a", "logit_bias": {"1000000": 1}}, 400),
    ("F47 an allowed id beyond it", COMPLETIONS, {"prompt": "a", "allowed_token_ids": [10**6]}, 400),
    ("F48 a prompt beyond the context", COMPLETIONS, {"prompt": [5] * 5000}, 400),
    ("F49 prompt and output beyond it", COMPLETIONS, {"prompt": [5] * 2000, "max_tokens": 100}, 400),
    ("F50 no tokens asked", COMPLETIONS, {"prompt": "a", "max_tokens": 0}, 400),
    ("F50 fewer than none", COMPLETIONS, {"prompt": "a", "max_tokens": -1}, 400),
    ("F50 a number as text", COMPLETIONS, {"prompt": "a", "max_tokens": "5"}, 400),
    ("F50 true", COMPLETIONS, {"prompt": "a", "max_tokens": True}, 400),
    ("F51 least above most", COMPLETIONS, {"prompt": "a", "min_tokens": 5, "max_tokens": 4}, 400),
    ("F51 a huge least", COMPLETIONS, {"prompt": "a", "min_tokens": 2**31}, 400),
    ("F52 no samples", COMPLETIONS, {"prompt": "a", "n": 0}, 400),
    ("F52 too many samples", COMPLETIONS, {"prompt": "a", "n": 129}, 400),
    ("F53 a temperature too high", COMPLETIONS, {"prompt": "a", "temperature": 2.01}, 400),
    ("F53 a temperature below zero", COMPLETIONS, {"prompt": "a", "temperature": -1}, 400),
    ("F54 no mass", COMPLETIONS, {"prompt": "a", "top_p": 0}, 400),
    ("F54 a top_k below -1", COMPLETIONS, {"prompt": "a", "top_k": -2}, 400),
    ("F54 a min_p above 1", COMPLETIONS, {"prompt": "a", "min_p": 2}, 400),
    ("F55 too many logprobs", COMPLETIONS, {"prompt": "a", "logprobs": 10**9}, 400),
    ("F55 top_logprobs alone", CHAT, {"messages": HELLO, "top_logprobs": 3}, 400),
    ("F56 too many biases", COMPLETIONS, {"prompt": "a", "logit_bias": {str(k): 1 for k in range(1100)}}, 400),
    ("F57 a penalty out of bounds", COMPLETIONS, {"prompt": "a", "presence_penalty": 2.5}, 400),
    ("F57 a repetition penalty of 0", COMPLETIONS, {"prompt": "a", "repetition_penalty": 0}, 400),
    ("F58 a seed beyond 64 bits", COMPLETIONS, {"prompt": "a", "seed": 2**64}, 400),
    ("F58 a seed as text", COMPLETIONS, {"prompt": "a", "seed": "7"}, 400),
    ("F59 five stop strings", COMPLETIONS, {"prompt": "a", "stop": ["1", "2", "3", "4", "5"]}, 400),
    ("F59 an empty stop string", COMPLETIONS, {"prompt": "a", "stop": ""}, 400),
    ("F60 options of a stream without one", CHAT, {"messages": HELLO, "stream_options": {"include_usage": True}}, 400),
    ("F60 a stream as text", CHAT, {"messages": HELLO, "stream": "yes"}, 400),
    ("F61 an unknown format", CHAT, {"messages": HELLO, "response_format": {"type": "xml"}}, 400),
    ("F61 a schema missing", CHAT, {"messages": HELLO, "response_format": {"type": "json_schema"}}, 400),
    (
        "F62 a schema of a type that is none",
        CHAT,
        {
            "messages": HELLO,
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "stsring"}}},
        },
        400,
    ),
]


def check_refusal(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert len(answer.content) <= 4096
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]


def check_canary(url: str) -> None:
    body = {"model": "folio", "prompt": [40, 41, 42], "max_tokens": 4, "temperature": 0, "ignore_eos": True}
    answer = httpx.post(f"{url}{COMPLETIONS}", json=body, timeout=30)
    assert answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize(("body", "headers", "status"), [row[1:] for row in RAW], ids=[row[0] for row in RAW])
def test_a_body_that_is_none_is_refused(server: Server, body: bytes, headers: dict[str, str], status: int) -> None:
    check_refusal(httpx.post(f"{server.url}{COMPLETIONS}", content=body, headers=headers, timeout=30), status)
    check_canary(server.url)


@pytest.mark.parametrize(("path", "fields", "status"), [row[1:] for row in FIELDS], ids=[row[0] for row in FIELDS])
def test_a_field_out_of_bounds_is_refused(server: Server, path: str, fields: dict[str, object], status: int) -> None:
    body = json.dumps({"model": "folio"} | fields)
    check_refusal(httpx.post(f"{server.url}{path}", content=body, headers=JSON, timeout=30), status)
    check_canary(server.url)


def test_of_two_equal_keys_the_last_counts(server: Server) -> None:
    body = b'{"model": "folio", "prompt": "a", "max_tokens": 3, "ignore_eos": true, "max_tokens": 2}'
    answer = httpx.post(f"{server.url}{COMPLETIONS}", content=body, headers=JSON, timeout=30)
    assert answer.json()["usage"]["completion_tokens"] == 2


def test_a_field_that_nobody_knows_is_taken(server: Server) -> None:
    body = {"model": "folio", "prompt": "a", "max_tokens": 1, "some_future_field": {"a": 1}}
    assert httpx.post(f"{server.url}{COMPLETIONS}", json=body, timeout=30).status_code == 200


def test_a_tiny_temperature_is_greedy(server: Server) -> None:
    def ask(temperature: float) -> str:
        body = {"model": "folio", "prompt": "Once upon", "max_tokens": 8, "temperature": temperature}
        return str(httpx.post(f"{server.url}{COMPLETIONS}", json=body, timeout=30).json()["choices"][0]["text"])

    assert ask(1e-40) == ask(0)
