"""The header x-quire-explain: what a request was run with, where each value comes from, and where the time went."""

from __future__ import annotations

import httpx
import pytest

from quire.config.decided import GenerationDefaults
from tests.unit.server.site import Site, events, fault

YES = {"x-quire-explain": "true"}
ASK = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}


async def ask(site: Site, **fields: object) -> httpx.Response:
    return await site.ask("POST", "/v1/chat/completions", json={**ASK, **fields}, headers=YES)


async def test_every_value_says_where_it_comes_from() -> None:
    site = Site(text={"defaults": GenerationDefaults(top_k=20)})
    [told] = (await ask(site, temperature=0.5, max_tokens=None)).json()["quire"]
    found = told["parameters"]
    assert found["temperature"] == {"value": 0.5, "origin": "request"}
    assert found["top_k"] == {"value": 20, "origin": "model"}
    assert found["min_p"] == {"value": 0.0, "origin": "default"}
    assert found["seed"]["origin"] == "drawn"
    assert found["max_tokens"] == {"value": 256 - told["prompt_tokens"], "origin": "context"}


async def test_a_greedy_request_is_told_what_that_turns_off() -> None:
    [told] = (await ask(Site(), temperature=0, top_p=0.5)).json()["quire"]
    assert told["parameters"]["top_p"] == {"value": 1.0, "origin": "greedy"}


async def test_the_spans_add_up_to_the_whole_time() -> None:
    [told] = (await ask(Site())).json()["quire"]
    assert told["generated_tokens"] == 4
    assert sum(told["spans"].values()) == pytest.approx(told["wall_s"])


async def test_a_stream_tells_it_in_an_event_of_its_own_behind_everything_else() -> None:
    *_, usage, last = events(await ask(Site(), stream=True, stream_options={"include_usage": True}))
    assert usage["usage"]["completion_tokens"] == 4
    assert last["choices"] == [] and last["quire"][0]["generated_tokens"] == 4


async def test_each_prompt_of_a_completion_is_told_apart() -> None:
    body = {"prompt": ["Hello", "Hello, world"], "max_tokens": 3}
    answer = await Site().ask("POST", "/v1/completions", json=body, headers=YES)
    assert [told["generated_tokens"] for told in answer.json()["quire"]] == [3, 3]


async def test_nobody_is_told_who_did_not_ask() -> None:
    assert "quire" not in (await Site().chat()).json()


async def test_a_header_that_says_neither_yes_nor_no_is_refused() -> None:
    answer = await Site().ask("POST", "/v1/chat/completions", json=ASK, headers={"x-quire-explain": "perhaps"})
    assert answer.status_code == 400 and fault(answer)["param"] == "x-quire-explain"
