"""The two examples that users of the field know by heart, with only the names changed."""

from __future__ import annotations

import pytest
from openai import OpenAI

from tests.e2e.running import Server

pytestmark = pytest.mark.xdist_group("server")


def test_the_offline_example() -> None:
    from quire import LLM, SamplingParams

    prompts = [
        "Hello, my name is",
        "The president of the United States is",
        "The capital of France is",
        "The future of AI is",
    ]
    sampling_params = SamplingParams(temperature=0.8, top_p=0.95)
    llm = LLM(model="folio")
    outputs = llm.generate(prompts, sampling_params)
    assert [output.prompt for output in outputs] == prompts
    for output in outputs:
        assert len(output.outputs[0].token_ids) in range(1, 17)
        assert isinstance(output.outputs[0].text, str)


def test_the_server_example(server: Server) -> None:
    client = OpenAI(base_url=f"{server.url}/v1", api_key="EMPTY")
    models = client.models.list()
    model = models.data[0].id
    chat_response = client.chat.completions.create(
        model=model,
        messages=[
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Who are you?"},
        ],
    )
    assert chat_response.choices[0].message.content
    completion = client.completions.create(model=model, prompt="San Francisco is a", max_tokens=7, temperature=0)
    assert completion.choices[0].text
