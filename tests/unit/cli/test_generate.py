from __future__ import annotations

import io
import sys
from types import ModuleType

import pytest

from quire.cli import MISTAKE, main
from quire.core.outputs import CompletionOutput, RequestOutput
from quire.core.params import SamplingParams


class FakeLLM:
    """Echoes the prompt and writes down how it was made and asked."""

    reason = "length"
    seen: tuple[str, dict[str, object], SamplingParams, bool]

    def __init__(self, model: str, **options: object) -> None:
        self.made = (model, options)

    def get_default_sampling_params(self) -> SamplingParams:
        return SamplingParams(top_k=40)

    def close(self) -> None:
        """Nothing is held."""

    def generate(self, prompt: str, params: SamplingParams, *, use_tqdm: bool) -> list[RequestOutput]:
        type(self).seen = (*self.made, params, False)
        return [
            RequestOutput("r", prompt, [], [CompletionOutput(0, f"<{prompt}>", [], finish_reason=self.reason)], True)
        ]

    def chat(self, messages: list[dict[str, str]], params: SamplingParams, use_tqdm: bool) -> list[RequestOutput]:
        outputs = self.generate(messages[0]["content"], params, use_tqdm=use_tqdm)
        type(self).seen = (*self.made, params, True)
        return outputs


@pytest.fixture(autouse=True)
def llm(monkeypatch: pytest.MonkeyPatch) -> type[FakeLLM]:
    fake = ModuleType("quire.llm")
    vars(fake)["LLM"] = FakeLLM
    monkeypatch.setitem(sys.modules, "quire.llm", fake)
    return FakeLLM


def test_a_prompt_is_continued_with_the_engines_options(llm: type[FakeLLM], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--prompt", "hi", "--max-tokens", "3", "--temperature", "0", "--max-model-len", "1K", "--seed", "4"]
    assert main(["generate", "some/model", *arguments]) == 0
    assert capsys.readouterr().out == "<hi>\n"
    model, options, params, is_chat = llm.seen
    assert (model, options, is_chat) == ("some/model", {"max_model_len": 1024, "seed": 4}, False)
    assert (params.max_tokens, params.temperature, params.top_k) == (3, 0.0, 40)


def test_a_prompt_may_come_on_standard_input(monkeypatch: pytest.MonkeyPatch, llm: type[FakeLLM]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe"))
    assert main(["generate", "--chat"]) == 0
    assert llm.seen[0] == "folio" and llm.seen[3] is True


def test_a_terminal_without_a_prompt_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert main(["generate"]) == MISTAKE
    assert "--prompt" in capsys.readouterr().err


def test_a_failed_continuation_is_no_success(
    llm: type[FakeLLM], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(llm, "reason", "error")
    assert main(["generate", "--prompt", "x"]) == 1
    assert "not whole" in capsys.readouterr().err
