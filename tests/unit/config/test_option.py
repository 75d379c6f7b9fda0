from __future__ import annotations

import pytest

from quire.config.asked import ENGINE_SLICES, SLICES, all_options, engine_options, gather
from quire.config.known_flags import area_of
from quire.config.option import Option, accept, read_text
from quire.errors import ConfigError, UnknownFlag, UnsupportedFlag

COUNT = Option("max_model_len", "count", None, "", low=1, high=10**9, words=(("auto", -1),))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("4096", 4096),
        ("25k", 25000),
        ("25.6k", 25600),
        ("25K", 25600),
        ("1m", 10**6),
        ("2M", 2**21),
        ("auto", -1),
        ("-1", -1),
    ],
)
def test_a_count_is_read_as_people_write_it(text: str, number: int) -> None:
    assert accept(COUNT, read_text(COUNT, text)) == number


@pytest.mark.parametrize("text", ["", "k", "25.6K", "0.0001k", "1e3", "-5", "25kk", "ten", "1.5", "0", "2T", "nan"])
def test_a_count_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--max-model-len"):
        accept(COUNT, read_text(COUNT, text))


@pytest.mark.parametrize("value", [True, 1.5, [1], {}, float("inf")])
def test_a_count_of_the_wrong_kind_is_refused(value: object) -> None:
    with pytest.raises(ConfigError):
        accept(COUNT, value)


def test_every_option_explains_itself_and_has_a_default_that_it_accepts() -> None:
    for _, one in all_options():
        assert one.help.endswith("."), one.name
        if one.default is not None:
            assert accept(one, one.default) == one.default


def test_no_name_is_declared_twice_and_none_is_also_unsupported() -> None:
    names = [name for _, one in all_options() for name in (one.name, *one.also)]
    assert len(names) == len(set(names))
    assert [name for name in names if area_of(name)] == []


def test_arguments_are_the_flags_with_underscores() -> None:
    options = engine_options(model="x", max_model_len="4K", gpu_memory_utilization=0.5, enforce_eager=True)
    assert options.model.max_model_len == 4096 and options.cache.gpu_memory_utilization == 0.5
    assert options.origin("max_model_len") == "argument max_model_len" and options.origin("dtype") == "default"


def test_none_means_that_nobody_asked() -> None:
    options = engine_options(max_model_len=None, dtype=None)
    assert not options.is_asked("max_model_len") and options.model.dtype == "auto"


@pytest.mark.parametrize(
    ("arguments", "kind", "expected"),
    [
        ({"max_modl_len": 1}, UnknownFlag, "did you mean max_model_len"),
        ({"zzzz": 1}, UnknownFlag, "zzzz is no option"),
        ({"enable_lora": True}, UnsupportedFlag, "known vLLM flag (adapters), not served by Quire yet"),
        ({"speculative_config": {}}, UnsupportedFlag, "known vLLM flag"),
        ({"port": 8000}, UnknownFlag, "port is no option"),
        ({"dtype": "int8"}, ConfigError, "--dtype takes one of"),
        ({"seed": "x"}, ConfigError, "--seed takes a whole number"),
        ({"seed": -1}, ConfigError, "--seed takes a number from 0"),
        ({"gpu_memory_utilization": 1.5}, ConfigError, "--gpu-memory-utilization"),
        ({"gpu_memory_utilization": float("nan")}, ConfigError, "--gpu-memory-utilization"),
        ({"skip_tokenizer_init": "maybe"}, ConfigError, "true or false"),
        ({"logits_processors": [1]}, ConfigError, "list of texts"),
        ({"override_generation_config": "[]"}, ConfigError, "JSON object"),
        ({"disable_log_stats": False}, UnsupportedFlag, "LLM writes no statistics"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(
    arguments: dict[str, object], kind: type[ConfigError], expected: str
) -> None:
    with pytest.raises(kind) as caught:
        engine_options(**arguments)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tensor_parallel_size", 2),
        ("pipeline_parallel_size", 2),
        ("data_parallel_size", 4),
        ("distributed_executor_backend", "ray"),
        ("enable_chunked_prefill", False),
        ("tokenizer_mode", "mistral"),
        ("runner", "pooling"),
    ],
)
def test_a_value_that_is_not_served_yet_is_refused_with_the_reason(name: str, value: object) -> None:
    with pytest.raises(UnsupportedFlag, match="is not served yet: "):
        engine_options(**{name: value})


def test_the_one_value_of_a_fixed_option_is_taken() -> None:
    fixed = engine_options(tensor_parallel_size=1, distributed_executor_backend="uni", tp=1).fixed
    assert (fixed.tensor_parallel_size, fixed.distributed_executor_backend) == (1, "uni")


def test_a_secret_is_never_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        engine_options(hf_token=12345678)
    assert "12345678" not in str(caught.value)


def test_known_flags_are_found_in_every_spelling() -> None:
    for spelling in (
        "enable-lora",
        "enable_lora",
        "--enable-lora",
        "no-enable-lora",
        "kv-transfer-config.kv_role",
        "cc",
    ):
        assert area_of(spelling)
    assert area_of("max-model-len") is None and area_of("nonsense") is None


def test_gathering_without_values_gives_the_defaults() -> None:
    assert set(ENGINE_SLICES) < set(SLICES)
    asked = gather({})
    assert asked.engine.model.model == "folio" and asked.server.port == 8000 and not asked.engine.origins
