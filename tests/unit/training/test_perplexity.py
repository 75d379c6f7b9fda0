"""What fewer bits cost the bundled model: perplexity of the answers in a part of the fixed conversations."""

from __future__ import annotations

import math
from functools import cache

import pytest
from tokenizers import Tokenizer

from quire import LLM, SamplingParams, plugins
from quire.bundled import folio_path
from training.folio.exam import perplexity_text
from training.folio.train import encode_document

EVERY = 6
BOUNDS = {"int8": 0.01, "w8a8": 0.01, "w4a8": 0.04, "int4": 0.04, "int4_sym": 0.04}
"""Most that perplexity may rise, as a part of that of bfloat16."""


@cache
def perplexity(quantization: str | None) -> float:
    tokenizer = Tokenizer.from_file(str(folio_path() / "tokenizer.json"))
    documents = [encode_document(tokenizer, pieces) for pieces in perplexity_text()[::EVERY]]
    llm = LLM(model="folio", dtype="bfloat16", quantization=quantization, packed_cache_bytes=0)
    params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
    outputs = llm.generate([{"prompt_token_ids": ids} for ids, _ in documents], params, use_tqdm=False)
    nats = []
    for (ids, is_answer), output in zip(documents, outputs, strict=True):
        assert output.prompt_logprobs is not None
        for token, counts, position in zip(ids[1:], is_answer[1:], output.prompt_logprobs[1:], strict=True):
            assert position is not None
            if counts:
                nats.append(-position[token].logprob)
    assert len(nats) > 500
    return math.exp(sum(nats) / len(nats))


@pytest.mark.parametrize("quantization", plugins.names("quant"))
def test_fewer_bits_cost_the_bundled_model_little(quantization: str) -> None:
    assert perplexity(quantization) != perplexity(None)
    assert perplexity(quantization) < perplexity(None) * (1 + BOUNDS[quantization])
