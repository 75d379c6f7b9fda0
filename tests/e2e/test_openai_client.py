"""The official OpenAI client against ``quire serve`` with the bundled model."""

from __future__ import annotations

import asyncio

import openai
import pytest

from tests.e2e.running import Server

pytestmark = pytest.mark.xdist_group("server")

QUESTION = [{"role": "user", "content": "What is 12 + 7?"}]


def test_models_are_listed_and_found_by_id(server: Server) -> None:
    client = server.client()
    [model] = client.models.list().data
    assert model.id == "folio"
    assert client.models.retrieve("folio").id == "folio"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_a_chat_answers_right(server: Server) -> None:
    answer = server.client().chat.completions.create(model="folio", messages=QUESTION, temperature=0)
    assert "19" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_streamed_chat_says_the_same_as_a_whole_one(server: Server) -> None:
    client = server.client()
    whole = client.chat.completions.create(model="folio", messages=QUESTION, temperature=0)
    chunks = list(
        client.chat.completions.create(
            model="folio", messages=QUESTION, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage


def test_a_completion_gives_logprobs(server: Server) -> None:
    answer = server.client().completions.create(
        model="folio", prompt="Once upon a time", max_tokens=8, temperature=0, logprobs=3, echo=True
    )
    [choice] = answer.choices
    assert choice.text.startswith("Once upon a time")
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or []) == choice.text
    assert choice.logprobs.token_logprobs is not None and choice.logprobs.token_logprobs[0] is None
    assert all(logprob <= 0 for logprob in choice.logprobs.token_logprobs[1:])
    assert choice.finish_reason == "length"


def test_n_samples_with_a_seed_come_again(server: Server) -> None:
    def ask() -> list[str]:
        answer = server.client().completions.create(
            model="folio", prompt="Once upon a time", max_tokens=24, temperature=1.0, seed=7, n=4
        )
        return [choice.text for choice in answer.choices]

    first = ask()
    assert len(set(first)) > 1
    assert ask() == first


def test_sixty_four_streams_at_once_say_what_each_says_alone(server: Server) -> None:
    questions = [f"What is {a} + {b}?" for a in range(10, 26) for b in (3, 14, 25, 36)]
    client = server.client()

    def alone(question: str) -> str:
        messages = [{"role": "user", "content": question}]
        answer = client.chat.completions.create(model="folio", messages=messages, temperature=0)
        return answer.choices[0].message.content or ""

    async def streamed(client: openai.AsyncOpenAI, question: str) -> str:
        messages = [{"role": "user", "content": question}]
        stream = await client.chat.completions.create(model="folio", messages=messages, temperature=0, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def together() -> list[str]:
        async with server.async_client() as client:
            return await asyncio.gather(*(streamed(client, question) for question in questions))

    assert asyncio.run(together()) == [alone(question) for question in questions]


def test_a_client_that_goes_away_frees_its_place(server: Server) -> None:
    import httpx

    body = {"model": "folio", "prompt": "Once upon a time", "max_tokens": 1500, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=30) as response:
        next(response.iter_lines())
    for _ in range(200):
        metrics = httpx.get(f"{server.url}/metrics").text
        if 'num_requests_running{engine="0",model_name="folio"} 0.0' in metrics:
            break
        httpx.post(f"{server.url}/tokenize", json={"prompt": "a"})
    else:
        raise AssertionError("The request of a client that went away is still running.")
