from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from quire.config.decided import GenerationDefaults, TextConfig
from quire.config.generation import defaults_from
from quire.config.json_fields import Fields
from quire.core.ids import RequestId
from quire.core.params import OutputKind, SamplingParams
from quire.errors import CheckpointError, InvalidValue, PromptTooLong, RequestError
from quire.text.limits import LIMITS
from quire.text.tokenizer import Tokenizer
from quire.text.validate import Admitted, Validator, counted_seeds, default_params

VOCAB = 100
CONFIG = TextConfig("", VOCAB, max_model_len=64, max_num_tokens=1024, eos_token_ids=(7, 9))


def admit(
    params: SamplingParams | None = None,
    prompt: list[Any] | None = None,
    config: TextConfig = CONFIG,
    tokenizer: Tokenizer | None = None,
    clamps_max_tokens: bool = False,
    **more: Any,
) -> Admitted:
    validator = Validator(config, tokenizer)
    prompt = [1, 2, 3] if prompt is None else prompt
    return validator.admit(
        RequestId("r"), prompt, params or SamplingParams(), clamps_max_tokens=clamps_max_tokens, **more
    )


def refusal(field: str, value: object, **more: Any) -> RequestError:
    with pytest.raises(InvalidValue) as caught:
        admit(SamplingParams(**{field: value}), **more)
    assert len(caught.value.message) < 400
    return caught.value


NAN, INF = math.nan, math.inf
BAD: dict[str, list[object]] = {
    "n": [0, -1, 129, 10**9, True, 1.0, "1", None],
    "temperature": [NAN, INF, -INF, -1, -1e-9, 2.01, "hot", True, None, 10**400],
    "top_p": [0, 0.0, 1.1, NAN, INF, -0.1, "1", False],
    "top_k": [-2, 2**31, 10**30, 1.0, True, "5", NAN],
    "min_p": [-0.1, 2, NAN, INF],
    "presence_penalty": [-2.1, 2.1, NAN, "0"],
    "frequency_penalty": [-2.1, 2.1, NAN, INF],
    "repetition_penalty": [0, 0.0, -1, NAN, INF, 1e308, 1e-40],
    "seed": [2**63, 2**64, -(2**63) - 1, 1.5, "7", True],
    "max_tokens": [0, -1, 2**31, 10**10, "5", 5.5, True],
    "min_tokens": [-1, 2**31, 17, "1", True, 1.0, None],
    "logprobs": [21, 10**9, -1, -2, True, "5", 5.0],
    "prompt_logprobs": [21, 10**9, -1, -2, False, "5"],
    "stop_token_ids": [[-1], [VOCAB], [VOCAB + 28], [2**31], [2**63], [1.0], [True], 5, "12", [1] * 1025],
    "allowed_token_ids": [[], [-1], [VOCAB], [2**63], [1.0], [True], [*range(VOCAB), 1], "1"],
    "logprob_token_ids": [[-1], [VOCAB], [True], [1] * 129, 3],
    "logit_bias": [
        {-1: 1.0}, {VOCAB: 1.0}, {2**63: 1.0}, {1.0: 1.0}, {True: 1.0}, {"x": 1.0}, {"-1": 1.0}, {"1e1": 1.0}, {1: NAN},
        {1: INF}, {1: "1"}, {1: None}, {1: True}, [1], {at: 1.0 for at in range(1025)},
    ],
    "truncate_prompt_tokens": [-2, 2**31, 1.0, True, "1"],
    "logits_processors": [["not.served:f"], [5], 5, ["a"] * 17],
    "ignore_eos": [1, None, "true"],
    "detokenize": [0, "no"],
    "skip_special_tokens": [1],
    "spaces_between_special_tokens": [1],
    "include_stop_str_in_output": ["yes"],
    "skip_reading_prefix_cache": [1, "yes"],
    "output_kind": [3, -1, "x"],
}  # fmt: skip
BAD_TEXT: dict[str, list[object]] = {
    "stop": [[""], "", ["x" * 1025], ["a"] * 17, [5], 5, [None], ["a", ""]],
    "bad_words": [[""], ["  "], ["x" * 1025], ["a"] * 129, [5], 5, ["long words " * 60] * 20],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_a_value_out_of_its_bounds_is_refused_with_the_fields_name(field: str, value: object) -> None:
    assert refusal(field, value).param == field


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD_TEXT.items() for value in values])
def test_a_text_out_of_its_bounds_is_refused_with_the_fields_name(
    field: str, value: object, tokenizer: Tokenizer
) -> None:
    config = replace(CONFIG, vocab_size=tokenizer.num_tokens)
    assert refusal(field, value, tokenizer=tokenizer, config=config).param == field


def test_messages_name_the_bounds_and_the_value() -> None:
    assert refusal("temperature", 2.01).message == "temperature must be between 0 and 2, got 2.01."
    assert refusal("top_p", 0).message == "top_p must be above 0 and at most 1, got 0."
    assert refusal("n", 129).message == "n must be between 1 and 128, got 129."
    assert refusal("max_tokens", "5").message == "max_tokens must be an integer, got '5'."
    assert len(refusal("temperature", "h" * 10_000).message) < 200


@pytest.mark.parametrize("wrong", [-1, VOCAB, VOCAB + 1, 2**31, 2**63, 1.0, True, None, "1"])
def test_a_prompt_of_wrong_ids_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        admit(prompt=[1, wrong])
    assert caught.value.param == "prompt"


def test_everything_at_its_bounds_is_taken() -> None:
    params = SamplingParams(
        n=128, temperature=2, top_p=1, top_k=-1, min_p=1, presence_penalty=-2, frequency_penalty=2, seed=2**63 - 1,
        repetition_penalty=0.01, max_tokens=61, min_tokens=61, logprobs=20, prompt_logprobs=20,
        stop_token_ids=[0, 99, 99], logit_bias={0: -1000.0, 99: 1e308},
        allowed_token_ids=list(range(VOCAB)),
    )  # fmt: skip
    request = admit(params, priority=-(2**63), cache_salt="!salt~").request
    assert request.n == 128
    assert request.sampling.temperature == 2.0
    assert request.sampling.top_k == 0
    assert request.sampling.logit_bias == ((0, -100.0), (99, 100.0))
    assert request.stopping.stop_token_ids == (0, 99)
    assert (request.priority, request.cache_salt) == (-(2**63), "!salt~")


@pytest.mark.parametrize("temperature", [0, 0.0, 1e-40, 9e-6])
def test_a_tiny_temperature_is_greedy_and_turns_the_filters_off(temperature: float) -> None:
    sampling = admit(SamplingParams(temperature=temperature, top_p=0.5, top_k=5, min_p=0.5, n=4)).request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.0, 1.0, 0, 0.0)


def test_a_top_k_beyond_the_vocabulary_is_off() -> None:
    assert admit(SamplingParams(top_k=VOCAB)).request.sampling.top_k == 0
    assert admit(SamplingParams(top_k=VOCAB - 1)).request.sampling.top_k == VOCAB - 1


def test_a_bias_may_have_ids_as_json_writes_them() -> None:
    bias: Any = {"5": 1}
    assert admit(SamplingParams(logit_bias=bias)).request.sampling.logit_bias == ((5, 1.0),)


@pytest.mark.parametrize(("tokens", "fits"), [(62, True), (63, True), (64, False), (65, False)])
def test_a_prompt_must_leave_one_token_of_the_context(tokens: int, fits: bool) -> None:
    params = SamplingParams(max_tokens=None)
    if fits:
        assert admit(params, [1] * tokens).request.stopping.max_tokens == 64 - tokens
    else:
        with pytest.raises(PromptTooLong, match=f"has {tokens} tokens.*takes 64.*by {tokens - 63} ") as caught:
            admit(params, [1] * tokens, prompt_param="messages")
        assert caught.value.param == "messages"
        assert caught.value.code == "context_length_exceeded"


def test_an_explicit_max_tokens_beyond_the_context_is_refused_by_servers_and_cut_by_the_library() -> None:
    params = SamplingParams(max_tokens=62, min_tokens=62)
    with pytest.raises(PromptTooLong, match="at most 61"):
        admit(params)
    stopping = admit(params, clamps_max_tokens=True).request.stopping
    assert (stopping.max_tokens, stopping.min_tokens) == (61, 61)


def test_a_prompt_that_the_pool_can_never_hold_is_refused() -> None:
    small = replace(CONFIG, max_num_tokens=16)
    with pytest.raises(PromptTooLong, match="KV cache holds 16"):
        admit(prompt=[1] * 16, config=small)
    with pytest.raises(PromptTooLong, match="KV cache holds 16"):
        admit(SamplingParams(max_tokens=10), [1] * 10, small)
    assert admit(SamplingParams(max_tokens=None), [1] * 10, small).request.stopping.max_tokens == 6


def test_an_empty_prompt_is_bos_where_there_is_one(tokenizers: dict[str, Tokenizer]) -> None:
    config = replace(CONFIG, vocab_size=2000)
    assert admit(prompt=[], config=config, tokenizer=tokenizers["byte_fallback"]).request.prompt_ids == (1,)
    for tokenizer in (tokenizers["byte_level"], None):
        with pytest.raises(InvalidValue, match="prompt is empty"):
            admit(prompt=[], config=config, tokenizer=tokenizer)


@pytest.mark.parametrize(("kept", "expected"), [(2, 2), (0, None), (-1, 63), (500, None)])
def test_a_truncated_prompt_keeps_its_end(kept: int, expected: int | None) -> None:
    prompt = list(range(80))
    params = SamplingParams(truncate_prompt_tokens=kept, max_tokens=1)
    if expected is None:
        with pytest.raises(RequestError):
            admit(params, prompt)
    else:
        assert admit(params, prompt).request.prompt_ids == tuple(prompt[-expected:])


@pytest.mark.parametrize("bound", [-1e12, -10.0, -2.0, 0.0, 1e-9, 0.001, 0.01, 1.0, 2.0, 10.0, 1e12])
def test_no_default_of_a_model_is_refused_as_a_request_s_own_would_not_be(bound: float) -> None:
    for name in LIMITS.keys() & set(GenerationDefaults.__struct_fields__) - {"top_k", "max_tokens"}:
        try:
            defaults = defaults_from(Fields(Path("generation_config.json"), {name: bound}))
        except CheckpointError:
            continue
        admit(default_params(replace(CONFIG, defaults=defaults)))


def test_a_prompt_truncated_to_the_context_leaves_room_for_what_is_asked() -> None:
    prompt = list(range(80))
    for max_tokens, kept in ((16, 48), (63, 1), (None, 63)):
        admitted = admit(SamplingParams(truncate_prompt_tokens=-1, max_tokens=max_tokens), prompt)
        assert admitted.request.prompt_ids == tuple(prompt[-kept:])
        assert admitted.request.stopping.max_tokens == 64 - kept
    with pytest.raises(PromptTooLong):
        admit(SamplingParams(truncate_prompt_tokens=-1, max_tokens=64), prompt)


def test_ends_of_sequence_are_the_models_and_the_tokenizers(tokenizer: Tokenizer) -> None:
    config = replace(CONFIG, vocab_size=tokenizer.num_tokens)
    assert admit().request.stopping.eos_token_ids == (7, 9)
    assert admit(config=config, tokenizer=tokenizer).request.stopping.eos_token_ids == (7, 9, tokenizer.eos_token_id)
    assert admit(SamplingParams(ignore_eos=True)).request.stopping.eos_token_ids == ()


def test_seeds_are_drawn_or_counted() -> None:
    drawn = {admit().request.sampling.seed for _ in range(20)}
    assert len(drawn) == 20
    assert all(0 <= seed < 2**63 for seed in drawn)
    assert admit(SamplingParams(seed=5)).request.sampling.seed == 5
    assert admit(SamplingParams(seed=-1)).request.sampling.seed != -1
    one, two = counted_seeds(3), counted_seeds(3)
    first = [one() for _ in range(5)]
    assert first == [two() for _ in range(5)]
    assert len(set(first)) == 5
    assert counted_seeds(4)() != first[0]
    validator = Validator(CONFIG, None, counted_seeds(3))
    got = validator.admit(RequestId("r"), [1], SamplingParams(), clamps_max_tokens=True)
    assert got.request.sampling.seed == first[0]


def test_logprobs_of_the_whole_vocabulary_need_no_bound() -> None:
    free = replace(CONFIG, max_logprobs=-1)
    sampling = admit(SamplingParams(logprobs=-1, prompt_logprobs=1000), config=free).request.sampling
    assert (sampling.num_logprobs, sampling.num_prompt_logprobs) == (VOCAB, VOCAB)
    assert admit(SamplingParams(logprobs=0)).request.sampling.num_logprobs == 0
    assert admit().request.sampling.num_logprobs == -1


def test_logprobs_of_named_ids_must_agree_in_number() -> None:
    sampling = admit(SamplingParams(logprob_token_ids=[4, 5])).request.sampling
    assert (sampling.num_logprobs, sampling.logprob_token_ids) == (2, (4, 5))
    with pytest.raises(InvalidValue, match="equal"):
        admit(SamplingParams(logprobs=1, logprob_token_ids=[4, 5]))


def test_more_prompt_logprobs_than_a_message_holds_are_refused() -> None:
    long = replace(CONFIG, max_model_len=2**20, max_num_tokens=2**20)
    admit(SamplingParams(prompt_logprobs=20), [1] * 131_071, config=long)
    for params in (SamplingParams(prompt_logprobs=20), SamplingParams(prompt_logprobs=0, logprob_token_ids=[1] * 20)):
        with pytest.raises(InvalidValue, match="2800000 are given at most") as caught:
            admit(params, [1] * 262_143, config=long)
        assert caught.value.param == "prompt_logprobs"
    admit(SamplingParams(prompt_logprobs=9), [1] * 262_143, config=long)


def test_prompt_logprobs_do_not_read_the_prefix_cache() -> None:
    assert admit().request.reads_prefix_cache
    assert not admit(SamplingParams(prompt_logprobs=0)).request.reads_prefix_cache
    assert not admit(SamplingParams(skip_reading_prefix_cache=True)).request.reads_prefix_cache


@pytest.mark.parametrize("salt", ["a" * 129, "a/b", "a@b", "a\\b", "a b", "é", "a\n", 5, None, "\x7f"])
def test_a_salt_outside_its_alphabet_is_refused(salt: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        admit(cache_salt=salt)
    assert caught.value.param == "cache_salt"


@pytest.mark.parametrize("priority", [2**63, -(2**63) - 1, 1.0, True, "1", None])
def test_a_priority_that_is_no_64_bit_integer_is_refused(priority: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        admit(priority=priority)
    assert caught.value.param == "priority"


def test_a_door_may_have_a_smaller_cap_of_stop_strings(tokenizer: Tokenizer) -> None:
    config = replace(CONFIG, vocab_size=tokenizer.num_tokens)
    params = SamplingParams(stop=["a", "b", "c", "d", "e"])
    assert admit(params, config=config, tokenizer=tokenizer).options.stop == ("a", "b", "c", "d", "e")
    with pytest.raises(InvalidValue, match="at most 4"):
        admit(params, config=config, tokenizer=tokenizer, max_stop_strings=4)


def test_stop_strings_need_text(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidValue, match="without a tokenizer"):
        admit(SamplingParams(stop="a"))
    with pytest.raises(InvalidValue, match="detokenize is false"):
        admit(SamplingParams(stop="a", detokenize=False), tokenizer=tokenizer, config=replace(CONFIG, vocab_size=900))


def test_bad_words_are_masked_wherever_they_may_stand(kind: str, tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers[kind]
    config = replace(CONFIG, vocab_size=tokenizer.num_tokens)
    found = admit(
        SamplingParams(bad_words=["small"]), config=config, tokenizer=tokenizer
    ).request.sampling.bad_words_ids
    assert tuple(tokenizer.encode("small", add_special_tokens=False)) in found
    for text in ("a small", "a\nsmall"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert any(tuple(ids[-len(bad) :]) == bad for bad in found)
    with pytest.raises(InvalidValue, match="tokenizer"):
        admit(SamplingParams(bad_words=["small"]))


def test_a_request_that_leaves_no_token_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidValue, match="No token is left"):
        admit(SamplingParams(allowed_token_ids=[7, 9], min_tokens=1))
    assert admit(SamplingParams(allowed_token_ids=[7, 9])).request.sampling.allowed_token_ids == (7, 9)
    config = replace(CONFIG, vocab_size=tokenizer.num_tokens)
    (word,) = tokenizer.encode("a", add_special_tokens=False)
    with pytest.raises(InvalidValue, match="No token is left"):
        admit(SamplingParams(allowed_token_ids=[word], bad_words=["a"]), config=config, tokenizer=tokenizer)


def test_only_served_processors_may_be_named() -> None:
    config = replace(CONFIG, logits_processors=("mine:f",))
    assert admit(SamplingParams(logits_processors=["mine:f"]), config=config).request.sampling.processors == ("mine:f",)


def test_the_models_own_defaults_apply() -> None:
    config = replace(CONFIG, defaults=GenerationDefaults(temperature=0.6, top_k=20, max_tokens=99))
    params = default_params(config)
    assert (params.temperature, params.top_k, params.max_tokens, params.top_p) == (0.6, 20, 99, 1.0)
    assert default_params(CONFIG) == SamplingParams()


def test_the_front_keeps_what_makes_text(tokenizer: Tokenizer) -> None:
    params = SamplingParams(
        stop="x", include_stop_str_in_output=True, skip_special_tokens=False, spaces_between_special_tokens=False,
        output_kind=OutputKind.DELTA, min_tokens=2, logprobs=1, prompt_logprobs=1,
    )  # fmt: skip
    options = admit(params, tokenizer=tokenizer, config=replace(CONFIG, vocab_size=900)).options
    assert (options.stop, options.include_stop, options.skip_special_tokens) == (("x",), True, False)
    assert (options.output_kind, options.min_tokens) == (OutputKind.DELTA, 2)
    assert options.wants_logprobs
    assert options.wants_prompt_logprobs


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.lists(st.integers(-2, 101), max_size=3), st.lists(st.text(max_size=3), max_size=3),
    st.dictionaries(st.integers(-2, 101), st.floats(), max_size=3),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(fields=st.dictionaries(st.sampled_from(SamplingParams.__struct_fields__), JUNK, max_size=4))
def test_whatever_is_written_either_passes_or_is_refused(fields: dict[str, Any]) -> None:
    try:
        request = admit(SamplingParams(**fields)).request
    except RequestError as error:
        assert error.status == 400
        assert error.param
        return
    sampling = request.sampling
    numbers = [sampling.temperature, sampling.top_p, sampling.min_p, sampling.repetition_penalty]
    assert all(math.isfinite(number) for number in [*numbers, *(value for _, value in sampling.logit_bias)])
    ids = [
        *request.prompt_ids,
        *request.stopping.stop_token_ids,
        *sampling.allowed_token_ids,
        *dict(sampling.logit_bias),
    ]
    assert all(type(id) is int and 0 <= id < VOCAB for id in ids)
    assert len(request.prompt_ids) + request.stopping.max_tokens <= CONFIG.max_model_len
    assert request.stopping.min_tokens <= request.stopping.max_tokens
