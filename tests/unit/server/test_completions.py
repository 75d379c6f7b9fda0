"""POST /v1/completions: shapes of whole answers and of streams, echo, many prompts, and what is refused."""

from __future__ import annotations

import pytest

from tests.unit.server.site import CONTEXT, SAYS, Site, events, fault, tokenizer


def says(start: int, num: int) -> str:
    """What the fake engine says from a token on."""
    ids = tokenizer().encode(SAYS, add_special_tokens=False)
    return tokenizer().decode([ids[(start + k) % len(ids)] for k in range(num)])


async def test_a_whole_answer_has_every_field_of_the_api() -> None:
    answer = (await Site().complete()).json()
    assert answer["id"].startswith("cmpl-")
    assert answer["object"] == "text_completion"
    assert answer["usage"]["completion_tokens"] == 4
    nulls = ("logprobs", "stop_reason", "token_ids", "prompt_logprobs", "prompt_token_ids")
    expected = {"index": 0, "text": says(0, 4), "finish_reason": "length", **dict.fromkeys(nulls)}
    assert answer["choices"] == [expected]


@pytest.mark.parametrize(
    ("stream", "prompt"), [(False, ["a", "b", "c"]), (True, ["a", "b", "c"]), (True, [[5], [6], [7]])]
)
async def test_choices_count_prompt_by_prompt(stream: bool, prompt: object) -> None:
    answer = await Site().complete(prompt=prompt, n=2, max_tokens=5, stream=stream)
    texts: dict[int, str] = {}
    ends: dict[int, str] = {}
    chunks = events(answer) if stream else [answer.json()]
    for chunk in chunks:
        for choice in chunk["choices"]:
            index = choice["index"]
            texts[index] = texts.get(index, "") + choice["text"]
            if choice["finish_reason"] is not None:
                assert index not in ends
                ends[index] = choice["finish_reason"]
    assert texts == {index: says(index % 2, 5) for index in range(6)}
    assert ends == dict.fromkeys(range(6), "length")


async def test_a_stream_of_many_prompts_has_one_usage_chunk() -> None:
    fields = {"prompt": ["a", "b"], "n": 2, "stream": True, "stream_options": {"include_usage": True}}
    chunks = events(await Site().complete(**fields))
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks if "usage" in chunk] == [16]
    assert chunks[-1]["choices"] == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("prompt", ["Hello", [5, 6, 7]])
async def test_an_echo_begins_with_the_prompt(stream: bool, prompt: str | list[int]) -> None:
    answer = await Site().complete(prompt=prompt, echo=True, stream=stream)
    text = prompt if isinstance(prompt, str) else tokenizer().decode(prompt)
    chunks = events(answer) if stream else [answer.json()]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == text + says(0, 4)
    if stream:
        assert chunks[0]["choices"][0]["text"] == text + says(0, 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_echo_s_logprobs_begin_with_the_prompt_s(stream: bool) -> None:
    answer = await Site().complete(prompt="Hello, world", echo=True, logprobs=2, stream=stream)
    chunks = events(answer) if stream else [answer.json()]
    parts = [chunk["choices"][0]["logprobs"] for chunk in chunks if chunk["choices"][0]["logprobs"]]
    found = {key: [one for part in parts for one in part[key]] for key in parts[0]}
    num = len(tokenizer().encode("Hello, world")) + 4
    assert [len(values) for values in found.values()] == [num] * 4
    assert found["token_logprobs"][0] is found["top_logprobs"][0] is None
    assert found["token_logprobs"][1:] == [-1.0] * (num - 1)
    text = "Hello, world" + says(0, 4)
    assert "".join(found["tokens"]) == text
    assert found["text_offset"] == [len("".join(found["tokens"][:k])) for k in range(num)]
    assert all(len(one) in (2, 3) for one in found["top_logprobs"][1:])


@pytest.mark.parametrize("stream", [False, True])
async def test_an_echo_alone_needs_no_engine(stream: bool) -> None:
    site = Site()
    answer = await site.complete(prompt=["Hello", "you"], echo=True, max_tokens=0, stream=stream)
    chunks = events(answer) if stream else [answer.json()]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert [(choice["text"], choice["finish_reason"]) for choice in choices] == [("Hello", "length"), ("you", "length")]
    assert site.engine.requests == []


@pytest.mark.parametrize("stream", [False, True])
async def test_an_echo_alone_can_have_logprobs(stream: bool) -> None:
    fields = {"prompt": "Hello", "echo": True, "max_tokens": 0, "logprobs": 1}
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer = await Site().complete(**fields, **options)
    chunks = events(answer) if stream else [answer.json()]
    choice = chunks[0]["choices"][0]
    num = len(tokenizer().encode("Hello"))
    assert (choice["text"], choice["finish_reason"], len(choice["logprobs"]["tokens"])) == ("Hello", "length", num)
    counts = (num, 0, num)
    usage = chunks[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == counts


async def test_logprobs_of_zero_name_the_drawn_token_alone() -> None:
    logprobs = (await Site().complete(logprobs=0)).json()["choices"][0]["logprobs"]
    assert [list(one.values()) for one in logprobs["top_logprobs"]] == [[-1.0]] * 4


async def test_logprobs_of_named_tokens_are_shown() -> None:
    site = Site()
    logprobs = (await site.complete(logprob_token_ids=[5, 6])).json()["choices"][0]["logprobs"]
    assert site.engine.requests[0].sampling.logprob_token_ids == (5, 6)
    assert len(logprobs["tokens"]) == 4


@pytest.mark.parametrize("stream", [False, True])
async def test_token_ids_are_given_on_demand(stream: bool) -> None:
    answer = await Site().complete(prompt=[5, 6], return_token_ids=True, stream=stream)
    chunks = events(answer) if stream else [answer.json()]
    ids = [one for chunk in chunks for one in chunk["choices"][0]["token_ids"]]
    assert ids == tokenizer().encode(SAYS, add_special_tokens=False)[:4]
    assert chunks[0]["choices"][0]["prompt_token_ids"] == [5, 6]


async def test_prompt_logprobs_are_given_on_demand() -> None:
    answer = (await Site().complete(prompt=[5, 6, 7], prompt_logprobs=1)).json()
    found = answer["choices"][0]["prompt_logprobs"]
    assert found[0] is None
    assert [set(one) >= {str(token)} for one, token in zip(found[1:], (6, 7), strict=True)] == [True, True]


@pytest.mark.parametrize("stream", [False, True])
async def test_text_that_a_stop_string_might_begin_is_held_back_and_then_flushed(stream: bool) -> None:
    answer = await Site().complete(stop=["upon a mountain"], max_tokens=30, stream=stream)
    chunks = events(answer) if stream else [answer.json()]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == says(0, 30)


async def test_the_default_length_is_sixteen_and_is_cut_to_the_context() -> None:
    site = Site()
    await site.complete(max_tokens=None)
    await site.complete(prompt=[5] * (CONTEXT - 3), max_tokens=None)
    assert [request.stopping.max_tokens for request in site.engine.requests] == [16, 3]
    refused = await site.complete(prompt=[5] * (CONTEXT - 3), max_tokens=4)
    assert (refused.status_code, fault(refused)["code"]) == (400, "context_length_exceeded")


async def test_an_empty_prompt_is_the_beginning_of_a_text() -> None:
    site = Site()
    answer = await site.complete(prompt="", echo=True)
    assert site.engine.requests[0].prompt_ids == (tokenizer().bos_token_id,)
    assert answer.json()["choices"][0]["text"] == says(0, 4)


@pytest.mark.parametrize(
    "prompt",
    [
        [], [[]], ["a", 5], [5, "a"], [5, [5]], [[5], "a"], [[[5]]], [True], [[True]], [1.0], [[1.0]], None, 5,
        {"a": 1},
        [-1], [10**6], [2**31], [2**63], [[5], [-1]], [5] * CONTEXT, "Hello " * CONTEXT, ["a"] * 1025, ["a"] * 100_000,
    ],
)  # fmt: skip
async def test_a_prompt_that_is_none_is_refused(prompt: object) -> None:
    site = Site()
    refused = await site.complete(prompt=prompt)
    assert refused.status_code == 400
    assert str(fault(refused)["param"]).startswith("prompt")
    assert site.engine.requests == []


async def test_a_request_with_one_bad_prompt_starts_nothing() -> None:
    site = Site()
    assert (await site.complete(prompt=[[5], [6], [10**6]])).status_code == 400
    assert site.engine.requests == []


@pytest.mark.parametrize("limit", [0, -1, "5", 5.5, True, 2**31])
async def test_a_length_that_is_none_is_refused(limit: object) -> None:
    assert (await Site().complete(max_tokens=limit)).status_code == 400


@pytest.mark.parametrize(
    ("name", "value"), [("suffix", "end"), ("best_of", 2), ("best_of", 0), ("use_beam_search", True)]
)
async def test_a_field_that_is_not_served_is_refused_by_name(name: str, value: object) -> None:
    refused = await Site().complete(**{name: value})
    assert (refused.status_code, fault(refused)["param"], fault(refused)["code"]) == (400, name, "unsupported")


@pytest.mark.parametrize(
    "fields", [{"suffix": ""}, {"suffix": None}, {"best_of": 1}, {"response_format": {"type": "text"}}]
)
async def test_values_that_change_nothing_are_taken(fields: dict[str, object]) -> None:
    assert (await Site().complete(**fields)).status_code == 200


async def test_token_ids_need_no_tokenizer_and_texts_do() -> None:
    site = Site(has_tokenizer=False)
    answer = (await site.complete(prompt=[5, 6], return_token_ids=True, logprobs=0)).json()
    assert len(answer["choices"][0]["token_ids"]) == 4
    assert answer["choices"][0]["logprobs"]["tokens"][0].startswith("token_id:")
    assert (await site.complete(prompt="Hello")).status_code == 400
