"""POST /v1/chat/completions: shapes of whole answers and of streams, and what is refused."""

from __future__ import annotations

import httpx2
import openai
import pytest

from quire.config.decided import GenerationDefaults
from quire.server.schema import chat, sampling
from quire.version import __version__
from tests.unit.server.site import MODEL, SAYS, Site, events, fault, tokenizer

USER = {"role": "user", "content": "Hello"}


async def test_a_whole_answer_has_every_field_of_the_api() -> None:
    answer = (await Site().chat()).json()
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    assert answer["model"] == MODEL
    assert answer["system_fingerprint"].startswith(f"quire-{__version__}-")
    assert answer["service_tier"] is answer["prompt_logprobs"] is answer["prompt_token_ids"] is None
    [choice] = answer["choices"]
    says = tokenizer().decode(tokenizer().encode(SAYS, add_special_tokens=False)[:4])
    message = {"role": "assistant", "content": says, "refusal": None, "annotations": None, "audio": None}
    assert choice["message"] == {**message, "function_call": None, "reasoning": None}
    assert (choice["index"], choice["finish_reason"], choice["stop_reason"], choice["logprobs"]) == (
        0,
        "length",
        None,
        None,
    )
    num_prompt = answer["usage"]["prompt_tokens"]
    expected = {"prompt_tokens": num_prompt, "completion_tokens": 4, "total_tokens": num_prompt + 4}
    assert answer["usage"] == {**expected, "prompt_tokens_details": None}


async def test_a_stream_says_the_same_as_a_whole_answer() -> None:
    site = Site()
    whole = (await site.chat(n=3, max_tokens=9)).json()
    stream = events(await site.chat(n=3, max_tokens=9, stream=True))
    texts, ends = ["", "", ""], [None, None, None]
    for chunk in stream:
        [choice] = chunk["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
        if choice["finish_reason"] is not None:
            assert ends[choice["index"]] is None
            ends[choice["index"]] = choice["finish_reason"]
    assert texts == [choice["message"]["content"] for choice in whole["choices"]]
    assert ends == ["length"] * 3


async def test_the_chunks_of_a_stream_have_the_shapes_that_clients_expect() -> None:
    stream = events(await Site().chat(stream=True))
    first, second, last = stream[0], stream[1], stream[-1]
    assert set(first) == {"id", "object", "created", "model", "choices"}
    assert first["object"] == "chat.completion.chunk"
    delta = {"role": "assistant", "content": ""}
    assert first["choices"] == [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]
    assert set(second["choices"][0]["delta"]) == {"content"}
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["choices"][0]["stop_reason"] is None
    assert last["system_fingerprint"].startswith("quire-")
    assert len({chunk["id"] for chunk in stream}) == 1
    assert not any("usage" in chunk for chunk in stream)


async def test_usage_comes_in_one_chunk_of_its_own_before_the_end() -> None:
    stream = events(await Site().chat(stream=True, stream_options={"include_usage": True}))
    assert stream[-1]["choices"] == []
    assert set(stream[-1]["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert stream[-1]["usage"]["completion_tokens"] == 4
    assert "system_fingerprint" in stream[-1]
    assert not any("usage" in chunk for chunk in stream[:-1])


async def test_continuous_usage_counts_up_in_every_chunk() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    stream = events(await Site().chat(stream=True, stream_options=options))
    counts = [chunk["usage"]["completion_tokens"] for chunk in stream]
    assert counts == [0, 1, 2, 3, 4, 4]


async def test_forced_usage_needs_no_option() -> None:
    stream = events(await Site(forces_usage=True).chat(stream=True))
    assert all("usage" in chunk for chunk in stream)
    assert stream[-1]["choices"] == []


async def test_cached_tokens_are_told_where_the_operator_wants_it() -> None:
    site = Site(gives_prompt_tokens_details=True)
    site.engine.num_cached = 3
    assert (await site.chat()).json()["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}


async def test_logprobs_have_exact_bytes_and_as_many_candidates_as_asked() -> None:
    answer = (await Site().chat(logprobs=True, top_logprobs=2)).json()
    entries = answer["choices"][0]["logprobs"]["content"]
    assert len(entries) == 4
    for entry in entries:
        assert bytes(entry["bytes"]).decode("utf-8", "replace") == entry["token"]
        assert entry["logprob"] == -1.0
        assert [top["logprob"] for top in entry["top_logprobs"]] == [-0.5, -1.0]


async def test_logprobs_without_candidates_name_the_drawn_token_alone() -> None:
    answer = (await Site().chat(logprobs=True)).json()
    assert [entry["top_logprobs"] for entry in answer["choices"][0]["logprobs"]["content"]] == [[], [], [], []]


async def test_streamed_logprobs_are_those_of_the_whole_answer() -> None:
    site = Site()
    whole = (await site.chat(logprobs=True, top_logprobs=1)).json()["choices"][0]["logprobs"]["content"]
    chunks = events(await site.chat(logprobs=True, top_logprobs=1, stream=True))
    streamed = [one for chunk in chunks if (found := chunk["choices"][0]["logprobs"]) for one in found["content"]]
    assert streamed == whole


async def test_tokens_can_be_named_by_their_ids() -> None:
    answer = (await Site().chat(logprobs=True, return_tokens_as_token_ids=True, return_token_ids=True)).json()
    [choice] = answer["choices"]
    names = [entry["token"] for entry in choice["logprobs"]["content"]]
    assert names == [f"token_id:{token_id}" for token_id in choice["token_ids"]]
    assert answer["usage"]["prompt_tokens"] == len(answer["prompt_token_ids"])


async def test_streamed_token_ids_come_with_every_chunk_and_the_prompts_with_the_first() -> None:
    site = Site()
    whole = (await site.chat(return_token_ids=True)).json()
    stream = events(await site.chat(return_token_ids=True, stream=True))
    assert stream[0]["prompt_token_ids"] == whole["prompt_token_ids"]
    streamed = [one for chunk in stream for one in chunk["choices"][0].get("token_ids", [])]
    assert streamed == whole["choices"][0]["token_ids"]


async def test_prompt_logprobs_begin_with_nothing_and_have_one_entry_a_token() -> None:
    answer = (await Site().chat(prompt_logprobs=1)).json()
    assert answer["prompt_logprobs"][0] is None
    assert len(answer["prompt_logprobs"]) == answer["usage"]["prompt_tokens"]
    assert all({"logprob", "rank", "decoded_token"} == set(one) for one in answer["prompt_logprobs"][1].values())


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_string_cuts_the_text_and_tells_the_engine(stream: bool) -> None:
    site = Site()
    answer = await site.chat(stop=["upon a"], max_tokens=30, stream=stream)
    if stream:
        chunks = events(answer)
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        end = chunks[-1]["choices"][0]
    else:
        [end] = answer.json()["choices"]
        text = end["message"]["content"]
    assert text == " Once "
    assert (end["finish_reason"], end["stop_reason"]) == ("stop", "upon a")
    assert (site.engine.requests[0].id, 0) in site.engine.cancelled
    assert b'finished_reason="stop",model_name' in site.metrics.render().replace(b'engine="0",', b"")


async def test_a_stop_token_is_named_in_the_answer() -> None:
    site = Site()
    token = site.engine.says[2]
    [choice] = (await site.chat(stop_token_ids=[token])).json()["choices"]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", token)


async def test_a_prefix_of_the_answer_is_continued_and_echoed() -> None:
    site = Site()
    messages = [USER, {"role": "assistant", "content": "I say:"}]
    fields = {"messages": messages, "continue_final_message": True, "echo": True}
    whole = (await site.chat(**fields)).json()["choices"][0]["message"]["content"]
    assert whole.startswith("I say: Once")
    prompt = tokenizer().decode(site.engine.requests[0].prompt_ids, skip_special_tokens=False)
    assert prompt.endswith("assistant\nI say:")
    stream = events(await site.chat(**fields, stream=True))
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in stream) == whole


async def test_the_model_s_defaults_fill_what_the_request_leaves_out() -> None:
    defaults = GenerationDefaults(temperature=0.5, top_k=7, max_tokens=9)
    site = Site(text={"defaults": defaults})
    await site.ask("POST", "/v1/chat/completions", {"messages": [USER], "temperature": 0.25})
    sampling_of = site.engine.requests[0].sampling
    assert (sampling_of.temperature, sampling_of.top_k, site.engine.requests[0].stopping.max_tokens) == (0.25, 7, 9)


async def test_the_rest_of_the_context_is_the_default_length() -> None:
    site = Site()
    await site.chat(max_tokens=None)
    [request] = site.engine.requests
    assert request.stopping.max_tokens + len(request.prompt_ids) == site.text.max_model_len


async def test_max_completion_tokens_wins() -> None:
    site = Site()
    await site.chat(max_tokens=9, max_completion_tokens=3)
    assert site.engine.requests[0].stopping.max_tokens == 3
    refused = await site.chat(max_completion_tokens=0)
    assert (refused.status_code, fault(refused)["param"]) == (400, "max_completion_tokens")


async def test_the_extras_reach_the_engine() -> None:
    site = Site()
    await site.chat(priority=5, cache_salt="tenant-1", min_tokens=2, ignore_eos=True, seed=7, min_p=0.1, top_k=3)
    [request] = site.engine.requests
    assert (request.priority, request.cache_salt, request.stopping.min_tokens) == (5, "tenant-1", 2)
    assert request.stopping.eos_token_ids == ()
    assert (request.sampling.seed, request.sampling.min_p, request.sampling.top_k) == (7, 0.1, 3)


async def test_the_priority_header_goes_before_the_field() -> None:
    site = Site()
    body = {"messages": [USER], "max_tokens": 1, "priority": 5}
    await site.ask("POST", "/v1/chat/completions", body, headers={"x-vllm-priority": "-3"})
    assert site.engine.requests[0].priority == -3
    refused = await site.ask("POST", "/v1/chat/completions", body, headers={"x-vllm-priority": "soon"})
    assert refused.status_code == 400


async def test_template_variables_come_from_the_operator_and_then_from_the_client() -> None:
    site = Site(default_chat_template_kwargs='{"mood": "calm"}')
    await site.chat()
    await site.chat(chat_template_kwargs={"mood": "wild"})
    texts = [tokenizer().decode(request.prompt_ids) for request in site.engine.requests]
    assert "[calm]" in texts[0]
    assert "[wild]" in texts[1]


async def test_parts_of_text_are_joined_and_a_developer_is_a_system() -> None:
    site = Site()
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    await site.chat(messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}])
    text = tokenizer().decode(site.engine.requests[0].prompt_ids, skip_special_tokens=False)
    assert "<|im_start|>system\nBe brief.<|im_end|>" in text
    assert "<|im_start|>user\na\nb<|im_end|>" in text


async def test_a_history_of_tool_calls_is_taken() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = [
        USER,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]
    assert (await Site().chat(messages=messages)).status_code == 200


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


async def test_tools_without_a_choice_among_them_are_shown_to_the_model() -> None:
    site = Site()
    assert (await site.chat(tools=[TOOL], tool_choice="none")).status_code == 200
    assert "[1 tools]" in tokenizer().decode(site.engine.requests[0].prompt_ids)


@pytest.mark.parametrize("choice", [None, "auto", "required", {"type": "function", "function": {"name": "add"}}])
async def test_tool_calls_are_refused_by_name(choice: object) -> None:
    refused = await Site().chat(tools=[TOOL], tool_choice=choice)
    assert refused.status_code == 400
    assert (fault(refused)["code"], fault(refused)["param"]) == ("unsupported", "tool_choice")


@pytest.mark.parametrize(
    "tools",
    [
        [],
        [TOOL, TOOL],
        [TOOL] * 10_000,
        [{"type": "function", "function": {"name": "a b"}}],
        [{"type": "function", "function": {"name": "x" * 1_000_000}}],
        [{"type": "function", "function": {"name": "a", "parameters": None}}],
        [{"type": "function", "function": {"name": "a", "parameters": []}}],
        [{"type": "function", "function": {"name": "a", "description": 5}}],
        [{"type": "browser"}],
    ],
)
async def test_tools_that_are_none_are_refused(tools: object) -> None:
    assert (await Site().chat(tools=tools, tool_choice="none")).status_code == 400


UNSERVED = [*sampling.UNSERVED, *chat.UNSERVED]


@pytest.mark.parametrize("name", UNSERVED)
async def test_a_field_that_is_not_served_is_refused_by_name(name: str) -> None:
    refused = await Site().chat(**{name: {"type": "something", "x": [1]}})
    assert refused.status_code == 400
    assert (fault(refused)["code"], fault(refused)["param"]) == ("unsupported", name)


async def test_fields_that_are_not_served_may_say_what_changes_nothing() -> None:
    harmless = {name: values[0] if values else None for name, values in {**sampling.UNSERVED, **chat.UNSERVED}.items()}
    assert (await Site().chat(**harmless)).status_code == 200
    assert (await Site().chat(**dict.fromkeys(UNSERVED))).status_code == 200


async def test_unknown_fields_are_let_pass() -> None:
    assert (await Site().chat(grandma=True, user="someone", metadata={"a": "b", "b": 7})).status_code == 200


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ([{"role": "king", "content": "x"}], "messages[0].role"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": 5, "content": "x"}], "messages[0].role"),
        ([USER, {"role": "user", "content": 5}], "messages[1].content"),
        ([USER, {"role": "user", "content": None}], "messages[1].content"),
        ([{"role": "assistant", "content": None}], "messages[0].content"),
        ([{"role": "assistant"}], "messages[0].content"),
        ([{"role": "tool", "content": "x"}], "messages[0].tool_call_id"),
        ([{"role": "user", "content": [{"type": "text", "text": 5}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "dance"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": "x", "name": 5}], "messages[0].name"),
        ([{"role": "user", "content": "x", "tool_calls": [{}]}], "messages[0].tool_calls"),
        ([{"role": "assistant", "content": "x", "function_call": {}}], "messages[0].function_call"),
    ],
)
async def test_a_wrong_message_is_named_by_its_place(messages: object, param: str) -> None:
    refused = await Site().chat(messages=messages)
    assert (refused.status_code, fault(refused)["param"]) == (400, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.01}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"n": 0}, "n"),
        ({"n": -1}, "n"),
        ({"n": 129}, "n"),
        ({"n": 10**9}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 5.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"max_tokens": 10**9}, "messages"),
        ({"min_tokens": 5}, "min_tokens"),
        ({"min_tokens": 2**31}, "min_tokens"),
        ({"seed": 2**64}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": "x" * 10**6}, "stop"),
        ({"stop": [5]}, "stop[0]"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 10**9}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -2}, "top_logprobs"),
        ({"logprobs": 5}, "logprobs"),
        ({"logprob_token_ids": [1]}, "logprob_token_ids"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {str(k): 1 for k in range(5000)}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"stop_token_ids": [-1]}, "stop_token_ids"),
        ({"stop_token_ids": [2**63]}, "stop_token_ids"),
        ({"allowed_token_ids": [10**6]}, "allowed_token_ids"),
        ({"allowed_token_ids": []}, "allowed_token_ids"),
        ({"bad_words": [""]}, "bad_words"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"continuous_usage_stats": True}}, "stream_options.continuous_usage_stats"),
        ({"stream": True, "prompt_logprobs": 1}, "prompt_logprobs"),
        ({"cache_salt": ""}, "cache_salt"),
        ({"cache_salt": "a/b"}, "cache_salt"),
        ({"cache_salt": 5}, "cache_salt"),
        ({"cache_salt": "x" * 10**6}, "cache_salt"),
        ({"chat_template": "{{ messages }}"}, "chat_template"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
        ({"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs.tokenize"),
        ({"chat_template_kwargs": {"__class__": 1}}, "chat_template_kwargs.__class__"),
        ({"chat_template_kwargs": {"x": "y" * 10**7}}, "chat_template_kwargs"),
        ({"reasoning_effort": "heroic"}, "reasoning_effort"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"user": "x" * 10**6}, "user"),
        ({"user": 5}, "user"),
        ({"metadata": {str(k): "x" for k in range(1000)}}, "metadata"),
        ({"priority": 2**63}, "priority"),
        ({"priority": "high"}, "priority"),
        ({"request_id": "a b"}, "request_id"),
    ],
)
async def test_a_value_out_of_its_bounds_is_named(fields: dict[str, object], param: str) -> None:
    site = Site()
    refused = await site.chat(**fields)
    assert refused.status_code == 400, refused.text
    assert fault(refused)["param"] == param
    assert fault(refused)["type"] == "invalid_request_error"
    assert site.engine.requests == []


@pytest.mark.parametrize(
    "fields", [{"temperature": 1e-40}, {"seed": 2**62}, {"top_k": 10**9}, {"logit_bias": {"5": -100}}]
)
async def test_extreme_values_inside_their_bounds_are_taken(fields: dict[str, object]) -> None:
    assert (await Site().chat(**fields)).status_code == 200


@pytest.mark.parametrize("name", ["nobody", "", "x" * 10**6, "../../x"])
async def test_an_unknown_model_is_not_found_and_echoed_in_short(name: str) -> None:
    refused = await Site().chat(model=name)
    assert (refused.status_code, fault(refused)["code"], fault(refused)["param"]) == (404, "model_not_found", "model")
    assert len(str(fault(refused)["message"])) < 400


@pytest.mark.parametrize("name", [MODEL, "alias", None])
async def test_each_name_of_the_model_is_answered_with_its_first(name: str | None) -> None:
    assert (await Site().chat(model=name)).json()["model"] == MODEL


async def test_a_conversation_longer_than_the_context_is_refused() -> None:
    refused = await Site().chat(messages=[{"role": "user", "content": "Hello " * 500}])
    assert (refused.status_code, fault(refused)["code"]) == (400, "context_length_exceeded")
    cut = await Site().chat(messages=[{"role": "user", "content": "Hello " * 500}], truncate_prompt_tokens=20)
    assert cut.json()["usage"]["prompt_tokens"] == 20


async def test_ten_megabytes_of_text_are_refused_before_they_are_tokenised(monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(*args: object, **options: object) -> list[int]:
        raise AssertionError("it was tokenised")

    site = Site()
    monkeypatch.setattr(type(tokenizer()), "encode", encode)
    refused = await site.chat(messages=[{"role": "user", "content": "x" * 10**7}])
    assert (refused.status_code, fault(refused)["code"]) == (400, "context_length_exceeded")


async def test_a_hundred_thousand_messages_are_refused() -> None:
    assert (await Site().chat(messages=[USER] * 100_000)).status_code == 400


async def test_a_conversation_cannot_be_had_without_a_tokenizer() -> None:
    refused = await Site(has_tokenizer=False).chat()
    assert (refused.status_code, fault(refused)["code"]) == (400, "unsupported")


async def test_text_that_looks_like_events_stays_inside_its_event() -> None:
    site = Site()
    evil = '\n\ndata: [DONE]\n\ndata: {"error": 1}\r\n'
    messages = [USER, {"role": "assistant", "content": evil}]
    answer = await site.chat(messages=messages, continue_final_message=True, echo=True, stream=True)
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in events(answer))
    assert text.startswith(evil)


async def test_the_usual_client_library_understands_everything() -> None:
    site = Site()
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(site.app))
    async with openai.AsyncOpenAI(api_key="x", base_url="http://localhost/v1", http_client=http) as client:
        whole = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hi"}], max_tokens=3, logprobs=True, top_logprobs=1
        )
        assert whole.choices[0].message.content
        assert whole.choices[0].logprobs is not None
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Hi"}],
            max_tokens=3,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        assert (
            "".join(one.delta.content or "" for chunk in chunks for one in chunk.choices)
            == whole.choices[0].message.content
        )
        assert chunks[-1].usage is not None
        text = await client.completions.create(model=MODEL, prompt="Hi", max_tokens=3, echo=True, logprobs=1)
        assert text.choices[0].text.startswith("Hi")
        assert [model.id async for model in await client.models.list()] == [MODEL, "alias"]
        assert (await client.models.retrieve(MODEL)).id == MODEL
        with pytest.raises(openai.NotFoundError) as refused:
            await client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "Hi"}])
        assert refused.value.code == "model_not_found"
