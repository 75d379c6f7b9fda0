"""Models, tokenisation, health, version, load, docs and metrics over HTTP."""

from __future__ import annotations

import asyncio
import re

import pytest

from quire.server.openapi import DOCS_PAGE
from quire.version import __version__
from tests.unit.server.site import CONTEXT, MODEL, Site, Wire, fault, tokenizer


async def test_the_models_list_has_a_card_for_each_name() -> None:
    answer = (await Site().ask("GET", "/v1/models")).json()
    assert answer["object"] == "list"
    assert [card["id"] for card in answer["data"]] == [MODEL, "alias"]
    card = answer["data"][0]
    assert (card["object"], card["root"], card["max_model_len"], card["parent"]) == (
        "model",
        "models/tiny",
        CONTEXT,
        None,
    )
    assert card["permission"][0]["id"].startswith("modelperm-")
    assert (await Site().ask("GET", f"/v1/models/{MODEL}")).json()["id"] == MODEL


async def test_tokens_of_a_text_come_back_as_the_text() -> None:
    site = Site()
    text = "Hello, world 😀 <|im_end|>"
    answer = (await site.ask("POST", "/tokenize", {"prompt": text, "return_token_strs": True})).json()
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert answer["max_model_len"] == CONTEXT
    assert (await site.ask("POST", "/detokenize", {"tokens": answer["tokens"]})).json() == {"prompt": text}


async def test_tokens_of_a_conversation_are_those_that_chat_computes() -> None:
    site = Site()
    messages = [{"role": "user", "content": "Hello"}]
    tokens = (await site.ask("POST", "/tokenize", {"messages": messages})).json()["tokens"]
    await site.chat(messages=messages)
    assert tuple(tokens) == site.engine.requests[0].prompt_ids
    bare = (await site.ask("POST", "/tokenize", {"messages": messages, "add_generation_prompt": False})).json()[
        "tokens"
    ]
    assert len(bare) < len(tokens)


async def test_a_text_longer_than_the_context_can_still_be_counted() -> None:
    text = "Hello " * 20_000
    assert (await Site().ask("POST", "/tokenize", {"prompt": text})).json()["count"] > CONTEXT


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "a", "messages": []},
        {"prompt": 5},
        {"prompt": "a", "chat_template": "x"},
        {"prompt": "a", "media_io_kwargs": {"a": 1}},
        {"messages": []},
        {"prompt": "a", "model": 5},
    ],
)
async def test_a_wrong_tokenize_request_is_refused(body: dict[str, object]) -> None:
    assert (await Site().ask("POST", "/tokenize", body)).status_code == 400


@pytest.mark.parametrize("ids", [[-1], [10**6], [2**31], [2**63], [1.0], [True], ["a"], "a", [[1]]])
async def test_ids_that_are_none_are_refused(ids: object) -> None:
    refused = await Site().ask("POST", "/detokenize", {"tokens": ids})
    assert refused.status_code == 400
    assert str(fault(refused)["param"]).startswith("tokens")


async def test_the_last_id_of_the_logits_is_an_id_and_the_next_is_not() -> None:
    site = Site()
    assert (await site.ask("POST", "/detokenize", {"tokens": [site.text.vocab_size - 1]})).status_code == 200
    assert (await site.ask("POST", "/detokenize", {"tokens": [site.text.vocab_size]})).status_code == 400


async def test_health_follows_the_engine() -> None:
    site = Site()
    assert (await site.ask("GET", "/health")).content == b""
    site.engine.is_alive = False
    assert (await site.ask("GET", "/health")).status_code == 503
    assert (await site.ask("GET", "/readyz")).status_code == 503
    assert (await site.ask("GET", "/livez")).status_code == 200


async def test_the_version_is_told() -> None:
    assert (await Site().ask("GET", "/version")).json() == {"version": __version__}


async def test_the_load_counts_requests_in_flight() -> None:
    site = Site(tracks_load=True)
    site.engine.gate = asyncio.Event()
    running = asyncio.ensure_future(site.chat())
    while not site.engine.requests:
        await asyncio.sleep(0)
    assert (await site.ask("GET", "/load")).json() == {"server_load": 1}
    site.engine.gate.set()
    await running
    assert (await site.ask("GET", "/load")).json() == {"server_load": 0}


async def test_the_tokenizer_is_described_on_demand() -> None:
    answer = (await Site(has_tokenizer_info=True).ask("GET", "/tokenizer_info")).json()
    assert answer["eos_token_id"] == tokenizer().eos_token_id
    assert "im_start" in answer["chat_template"]


async def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = await Site().ask("GET", "/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.search(r"https?://|src=|@import", DOCS_PAGE)


async def test_the_document_shows_required_and_unserved_fields() -> None:
    document = (await Site().ask("GET", "/openapi.json")).json()
    chat = document["components"]["schemas"]["ChatRequest"]
    assert chat["required"] == ["messages"]
    assert "Not served" in chat["properties"]["structured_outputs"]["description"]
    operation = document["paths"]["/v1/chat/completions"]["post"]
    assert set(operation["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}


async def test_metrics_count_what_was_served() -> None:
    site = Site()
    await site.chat(max_tokens=6, n=2)
    await site.ask("GET", "/health")
    text = (await site.ask("GET", "/metrics")).text
    labels = '{engine="0",model_name="house/tiny-1"}'
    assert f"vllm:request_params_n_count{labels} 1.0" in text
    assert f"vllm:request_generation_tokens_sum{labels} 12.0" in text
    assert f"vllm:time_to_first_token_seconds_count{labels} 2.0" in text
    assert f"vllm:inter_token_latency_seconds_count{labels} 10.0" in text
    assert 'http_requests_total{handler="/v1/chat/completions",method="POST",status="2xx"} 1.0' in text
    assert "process_resident_memory_bytes" in text
    assert 'handler="/health"' not in text


async def test_the_life_of_the_application_begins_and_ends() -> None:
    site = Site(stats_interval_s=0.001)
    sent: list[str] = []
    phases = iter(("lifespan.startup", "lifespan.shutdown"))

    async def receive() -> dict[str, object]:
        await asyncio.sleep(0.005)
        return {"type": next(phases)}

    async def send(message: dict[str, object]) -> None:
        sent.append(str(message["type"]))

    await site.app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)  # type: ignore[arg-type]
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_websocket_is_no_route() -> None:
    wire = Wire(path="/v1/realtime")
    wire.scope["type"] = "websocket"
    sent: list[str] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(str(message["type"]))

    await Site().app(wire.scope, wire.receive, send)  # type: ignore[arg-type]
    assert sent == ["websocket.close"]
