"""A fixed shelf of models, so that these tests do not change when a family is added."""

from __future__ import annotations

import pytest

from quire import plugins

SHELVES = {
    "models": ["gemma2", "gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3"],
    "attention": ["cpu", "torch_sdpa"],
    "scheduler.policies": ["fcfs", "priority"],
    "platforms": ["cpu"],
    "quant": ["int4", "int4_sym", "int8", "w8a8"],
}


@pytest.fixture(autouse=True)
def shelves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "names", lambda shelf: SHELVES[shelf])
