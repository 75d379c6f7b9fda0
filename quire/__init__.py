"""Quire: an inference and serving engine for large language models.

The public names live here and are imported on first use, so that ``import quire`` is fast and never imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.version import __version__

if TYPE_CHECKING:
    from quire.core.outputs import CompletionOutput, Logprob, RequestOutput
    from quire.core.params import OutputKind, SamplingParams
    from quire.llm import LLM

__all__ = ["LLM", "CompletionOutput", "Logprob", "OutputKind", "RequestOutput", "SamplingParams", "__version__"]

_HOMES = {
    "LLM": "quire.llm",
    "SamplingParams": "quire.core.params",
    "OutputKind": "quire.core.params",
    "RequestOutput": "quire.core.outputs",
    "CompletionOutput": "quire.core.outputs",
    "Logprob": "quire.core.outputs",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'quire' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
