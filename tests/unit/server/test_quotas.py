"""What a key may use: at a time, in a minute, of which models, and whose prefixes it finds."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from quire.config.keys import ApiKey, plain_key
from quire.errors import RateLimited
from quire.server.quotas import Quotas
from tests.unit.server.site import MODEL, Site, fault


def key(name: str, **limits: object) -> ApiKey:
    return ApiKey(name, plain_key(name).sha256, **limits)  # type: ignore[arg-type]


async def chat(site: Site, name: str, **fields: object) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, **fields}
    return await site.ask("POST", "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {name}"})


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_minute_s_tokens_may_be_used_at_once_and_come_back_evenly() -> None:
    clock = Clock()
    quotas, one = Quotas(clock), key("a", tokens_per_minute=60)
    quotas.check(one, 1)
    quotas.enter(one, 50)
    quotas.check(one, 1)
    quotas.leave(one, 30)
    with pytest.raises(RateLimited) as refused:
        quotas.check(one, 1)
    assert refused.value.retry_after_s == 21
    clock.now_s = 21.0
    quotas.check(one, 1)
    clock.now_s = 1000.0
    quotas.enter(one, 60)
    with pytest.raises(RateLimited):
        quotas.check(one, 1)


def test_a_key_without_limits_is_never_refused() -> None:
    quotas, one = Quotas(), key("a")
    for _ in range(1000):
        quotas.enter(one, 10**6)
        quotas.check(one, 100)


async def test_so_many_requests_at_a_time_and_another_key_is_not_touched() -> None:
    site = Site(keys=(key("a", max_concurrency=1), key("b")))
    site.engine.gate = asyncio.Event()
    first = asyncio.ensure_future(chat(site, "a"))
    while not site.engine.requests:
        await asyncio.sleep(0)
    refused = await chat(site, "a")
    assert (refused.status_code, fault(refused)["code"]) == (429, "rate_limit_exceeded")
    assert refused.headers["retry-after"] == "1"
    other = asyncio.ensure_future(chat(site, "b"))
    site.engine.gate.set()
    assert (await first).status_code == (await other).status_code == (await chat(site, "a")).status_code == 200


async def test_a_prompt_counts_at_once_and_the_output_when_it_ended() -> None:
    site = Site(keys=(key("a", tokens_per_minute=5),))
    assert (await chat(site, "a")).status_code == 200
    assert (await chat(site, "a")).status_code == 429


async def test_a_key_sees_and_uses_its_own_models_only() -> None:
    site = Site(keys=(key("a", models=("alias",)), key("b")))
    names = []
    for name in "ab":
        listed = await site.ask("GET", "/v1/models", headers={"authorization": f"Bearer {name}"})
        names.append([model["id"] for model in listed.json()["data"]])
    assert names == [["alias"], [MODEL, "alias"]]
    assert (await chat(site, "a", model="alias")).status_code == 200
    assert (await chat(site, "a", model=MODEL)).status_code == 404
    assert (await chat(site, "a")).status_code == 200, "without a name it is the one that the key may use"
    assert (await chat(site, "b")).status_code == 200


async def test_prefixes_are_found_by_the_same_key_alone_unless_they_are_shared() -> None:
    site = Site(keys=(key("a"), key("b"), key("c", shares_prefixes=True), key("d", shares_prefixes=True)))
    salts = {}
    for name in "abcd":
        await chat(site, name)
        salts[name] = site.engine.requests[-1].cache_salt
    assert salts["a"] != salts["b"] and "" not in (salts["a"], salts["b"])
    assert salts["c"] == salts["d"] == ""
    await chat(site, "a", cache_salt="mine")
    assert site.engine.requests[-1].cache_salt not in (salts["a"], "mine")


async def test_who_asks_and_with_what_weight_reaches_the_engine() -> None:
    site = Site(keys=(key("a", weight=3.0),))
    await chat(site, "a")
    assert (site.engine.requests[-1].tenant, site.engine.requests[-1].weight) == ("a", 3.0)
