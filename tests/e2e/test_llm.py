"""The library with real models: how a request was scheduled does not show in what it gets, and nothing stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from quire import LLM, SamplingParams, plugins
from quire.core.outputs import RequestOutput
from quire.core.step import StepPlan, StepResult
from quire.errors import EngineDead, InvalidValue, PromptTooLong
from tests.contract import checkpoints
from tests.contract.checkpoints import Variant

STREAM = [(7 * at * at + 11 * at) % 300 for at in range(120)]
ASKED = [
    (STREAM[:1], SamplingParams(max_tokens=70, temperature=0.0)),
    (STREAM[:50], SamplingParams(max_tokens=60, seed=3, n=3, temperature=1.2, logprobs=2)),
    (STREAM[:33], SamplingParams(max_tokens=1, seed=4, prompt_logprobs=2)),
    (STREAM[:48], SamplingParams(max_tokens=50, seed=5, repetition_penalty=1.3, presence_penalty=0.5)),
    ([*STREAM[:49], 5, 6], SamplingParams(max_tokens=55, seed=6, top_p=0.9, top_k=50, frequency_penalty=0.5)),
    (STREAM[:64], SamplingParams(max_tokens=56, seed=7, prompt_logprobs=0, stop_token_ids=list(range(40)))),
    (STREAM[:40], SamplingParams(max_tokens=60, seed=8, min_tokens=20, stop_token_ids=list(range(150)))),
    (STREAM[:90], SamplingParams(max_tokens=30, seed=9, temperature=0.7, min_p=0.02)),
]


PLAIN_TORCH: dict[str, object] = {"dtype": "float32", "attention_backend": "torch_sdpa", "linear_backend": "torch"}
KERNELS: dict[str, object] = {"dtype": "bfloat16", "attention_backend": "cpu", "linear_backend": "native"}
has_kernels = pytest.mark.skipif(find_spec("quire._native") is None, reason="built without kernels")


def opened(model: str, **options: object) -> LLM:
    return LLM(model, **(PLAIN_TORCH | options))


def generated(llm: LLM, asked: list[tuple[list[int], SamplingParams]]) -> list[RequestOutput]:
    prompts = [{"prompt_token_ids": prompt} for prompt, _ in asked]
    return llm.generate(prompts, [params for _, params in asked], use_tqdm=False)


def assert_same(found: RequestOutput, expected: RequestOutput, tolerance: float = 1e-3) -> None:
    """Equal ids and ends; logprobs up to the tolerance."""
    for one, other in zip(found.outputs, expected.outputs, strict=True):
        assert (one.token_ids, one.finish_reason, one.stop_reason) == (
            other.token_ids,
            other.finish_reason,
            other.stop_reason,
        )
        assert abs((one.cumulative_logprob or 0.0) - (other.cumulative_logprob or 0.0)) <= 10 * tolerance
    assert (found.prompt_logprobs is None) == (expected.prompt_logprobs is None)
    for here, there in zip(found.prompt_logprobs or [], expected.prompt_logprobs or [], strict=True):
        assert (here is None) == (there is None)
        for token_id, logprob in (here or {}).items():
            assert there is not None and abs(logprob.logprob - there[token_id].logprob) <= tolerance


@pytest.mark.parametrize(
    ("family", "numbers", "tolerance"),
    [
        pytest.param("mistral", PLAIN_TORCH, 1e-3, id="mistral, plain torch"),
        pytest.param("llama", KERNELS, 0.0, id="llama, kernels, to the last bit", marks=has_kernels),
        pytest.param("gemma3_text", KERNELS, 0.0, id="gemma3, kernels, to the last bit", marks=has_kernels),
        pytest.param("llama", KERNELS | {"kv_cache_dtype": "fp8"}, 0.0, id="llama, fp8 KV", marks=has_kernels),
        pytest.param("gemma3_text", KERNELS | {"kv_cache_dtype": "int8"}, 0.0, id="gemma3, int8 KV", marks=has_kernels),
    ],
)
def test_a_request_gets_the_same_alone_in_a_crowd_cached_and_preempted(
    family: str, numbers: dict[str, object], tolerance: float, tmp_path: Path
) -> None:
    checkpoints.make(Variant(family), plugins.load("models", family).tiny_config(), tmp_path)
    common = {**numbers, "skip_tokenizer_init": True, "max_model_len": 128, "enable_prefix_caching": False}
    alone = opened(str(tmp_path), **common, max_num_seqs=1, num_gpu_blocks_override=400)
    expected = [generated(alone, [one])[0] for one in ASKED]
    num_groups = len(alone._parts.loop.scheduler.kv.layout.groups)
    alone.close()
    for caches in (False, True):
        common |= {"enable_prefix_caching": caches, "block_size": 4, "max_num_batched_tokens": 16, "max_num_seqs": 8}
        crowd = opened(str(tmp_path), **common, num_gpu_blocks_override=34 * num_groups)
        for found, right in zip([*generated(crowd, ASKED), *generated(crowd, ASKED)], expected * 2, strict=True):
            assert_same(found, right, tolerance)
        stats = crowd._parts.loop.stats
        assert stats.num_preemptions > 1 and (stats.prefix_hits > 30) == caches
        assert stats.num_blocks_held == 0
        crowd._parts.loop.scheduler.check()
        crowd.close()


@pytest.fixture(scope="module")
def folio() -> Iterator[LLM]:
    llm = opened("folio", max_model_len=128, max_num_seqs=4, num_gpu_blocks_override=64)
    yield llm
    llm.close()


def test_a_prompt_may_fill_the_context_but_for_one_token(folio: LLM) -> None:
    [found] = generated(folio, [([5] * 127, SamplingParams(max_tokens=9, ignore_eos=True))])
    assert [len(one.token_ids) for one in found.outputs] == [1] and found.outputs[0].finish_reason == "length"
    with pytest.raises(PromptTooLong):
        generated(folio, [([5] * 128, SamplingParams())])


def test_a_text_of_any_length_may_be_truncated(folio: LLM) -> None:
    params = SamplingParams(truncate_prompt_tokens=10, max_tokens=1)
    text = "one two three " * 5000
    with pytest.raises(PromptTooLong):
        folio.generate(text, SamplingParams(max_tokens=1), use_tqdm=False)
    [cut] = folio.generate(text, params, use_tqdm=False)
    assert cut.prompt_token_ids == folio.get_tokenizer().encode(text)[-10:]
    [cut] = folio.chat([{"role": "user", "content": text}], params, use_tqdm=False)
    assert len(cut.prompt_token_ids) == 10


def test_an_interrupted_call_leaves_the_model_usable(folio: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [(STREAM[:20], SamplingParams(max_tokens=8, temperature=0.0, ignore_eos=True))] * 3
    expected = generated(folio, asked)
    executor = folio._parts.executor
    compute, num_calls = executor.run, 0

    def interrupted(plan: StepPlan) -> StepResult:
        nonlocal num_calls
        num_calls += 1
        if num_calls == 3:
            raise KeyboardInterrupt
        return compute(plan)

    monkeypatch.setattr(executor, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generated(folio, asked)
    assert not folio._parts.loop.has_work and folio._parts.loop.stats.num_blocks_held == 0
    for found, right in zip(generated(folio, asked), expected, strict=True):
        assert_same(found, right)


def test_a_bad_request_is_refused_before_any_other_is_computed(folio: LLM) -> None:
    with pytest.raises(InvalidValue):
        folio.generate(["good", "bad"], [SamplingParams(), SamplingParams(top_p=0.0)], use_tqdm=False)
    assert not folio._parts.loop.has_work
    for lists in ({"sampling_params": [SamplingParams()]}, {"priority": [1]}):
        with pytest.raises(InvalidValue, match="2 prompts"):
            folio.generate(["a", "b"], use_tqdm=False, **lists)  # type: ignore[arg-type]


def test_a_stop_string_ends_one_sample_and_the_others_go_on(folio: LLM) -> None:
    params = SamplingParams(n=3, seed=2, max_tokens=40, ignore_eos=True, min_tokens=40)
    [whole] = folio.generate("Once upon a time", params, use_tqdm=False)
    stop = whole.outputs[1].text[10:14]
    cut = SamplingParams(n=3, seed=2, max_tokens=40, ignore_eos=True, stop=[stop])
    [found] = folio.generate("Once upon a time", cut, use_tqdm=False)
    for one, all_of_it in zip(found.outputs, whole.outputs, strict=True):
        before, at, _ = all_of_it.text.partition(stop)
        assert one.text == before and one.finish_reason == ("stop" if at else "length")
        assert one.token_ids == all_of_it.token_ids[: len(one.token_ids)]
    assert found.outputs[1].stop_reason == stop
    assert folio._parts.loop.stats.num_blocks_held == 0


def test_what_is_no_prompt_and_no_conversation_is_refused_in_words() -> None:
    llm = opened("folio", max_num_seqs=2)
    with pytest.raises(InvalidValue, match="prompts must be a text, token ids, a dict, or a list of these, got int"):
        llm.generate(5)  # type: ignore[arg-type]
    assert llm.generate([]) == llm.chat([]) == []
    for wrong in ("hi", [["hi"]], [[]], 5):
        with pytest.raises(InvalidValue, match="messages must be a list of messages"):
            llm.chat(wrong)  # type: ignore[arg-type]
    llm.close()
    llm.close()
    with pytest.raises(EngineDead, match="This LLM was closed; make another"):
        llm.generate("Hello")
