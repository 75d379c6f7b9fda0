from __future__ import annotations

from pathlib import Path

import pytest

from quire.config.asked import Asked, all_options
from quire.config.flags import help_text, read_command_line, wants_help
from quire.errors import ConfigError, UnknownFlag, UnsupportedFlag


def read(*arguments: str) -> Asked:
    return read_command_line(arguments, prog="quire serve")


def test_nothing_asked_is_the_bundled_model() -> None:
    assert read().engine.model.model == "folio"


@pytest.mark.parametrize(
    "arguments",
    [
        ("my/model", "--port", "9"),
        ("--port", "9", "my/model"),
        ("--model", "my/model", "--port=9"),
        ("--model=my/model", "--port", "9"),
        ("--served-model-name", "a", "b", "--port", "9", "my/model"),
    ],
)
def test_the_model_may_stand_anywhere(arguments: tuple[str, ...]) -> None:
    asked = read(*arguments)
    assert asked.engine.model.model == "my/model" and asked.server.port == 9


def test_two_models_are_one_too_many() -> None:
    with pytest.raises(ConfigError, match="Two models"):
        read("a", "--model", "b")


@pytest.mark.parametrize("flag", ["--max-model-len", "--max_model_len", "--max_model-len", "--max-model"])
def test_dashes_and_underscores_are_alike_and_beginnings_are_enough(flag: str) -> None:
    assert read(flag, "25K").engine.model.max_model_len == 25600


def test_underscores_in_values_are_kept() -> None:
    assert read("--tokenizer=my_tok", "--download_dir", "a_b").engine.load.download_dir == "a_b"


def test_a_boolean_has_a_twin() -> None:
    assert read("--no-enable-prefix-caching").engine.cache.enable_prefix_caching is False
    assert read("--enable-prefix-caching").engine.cache.enable_prefix_caching is True
    assert read("--no-disable-log-stats").server.disable_log_stats is False


def test_minus_one_and_auto_ask_for_what_fits() -> None:
    assert read("--max-model-len", "-1").engine.model.max_model_len == -1
    assert read("--max-model-len=auto").engine.model.max_model_len == -1


def test_lists_come_as_words_or_as_json() -> None:
    assert read("--api-key", "a", "b").server.api_key == ("a", "b")
    assert read("--allowed-origins", '["x", "y"]').server.allowed_origins == ("x", "y")
    with pytest.raises(ConfigError, match="list of texts"):
        read("--allowed-origins", "[1]")
    with pytest.raises(ConfigError, match="JSON list"):
        read("--allowed-origins", "[")


def test_json_comes_whole_or_by_dotted_keys() -> None:
    asked = read("--override-generation-config", '{"top_k": 5}', "--override_generation_config.temperature", "0.5")
    assert asked.engine.text.override_generation_config == {"top_k": 5, "temperature": 0.5}
    asked = read("--default-chat-template-kwargs.a.b=x", "--default-chat-template-kwargs.a.c=true")
    assert asked.server.default_chat_template_kwargs == {"a": {"b": "x", "c": True}}


def test_short_spellings_work() -> None:
    assert read("-tp", "1", "-q", "none").engine.model.quantization == "none"
    assert read("--device-memory-utilization", "0.5").engine.cache.gpu_memory_utilization == 0.5


def test_a_token_may_be_bare() -> None:
    assert read("--hf-token").engine.load.hf_token is True
    assert read("--hf-token", "abc").engine.load.hf_token == "abc"


@pytest.mark.parametrize(
    ("arguments", "kind", "expected"),
    [
        (("--enable-lora",), UnsupportedFlag, "--enable-lora is a known vLLM flag (adapters)"),
        (("--no-enable-lora",), UnsupportedFlag, "known vLLM flag"),
        (("--compilation-config", "{}"), UnsupportedFlag, "known vLLM flag"),
        (("--compilation_config.mode", "3"), UnsupportedFlag, "known vLLM flag"),
        (("-cc.mode=3",), UnsupportedFlag, "known vLLM flag"),
        (("-O3",), UnsupportedFlag, "--optimization-level"),
        (("-dcp", "2"), UnsupportedFlag, "known vLLM flag"),
        (("--prot", "1"), UnknownFlag, "did you mean --port"),
        (("--no-port",), UnknownFlag, "--no-port is no option"),
        (("--max-num", "3"), ConfigError, "mbiguous"),
        (("--port",), ConfigError, "expected one argument"),
        (("--port", "many"), ConfigError, "--port takes a whole number"),
        (("--port", "65536"), ConfigError, "--port takes a number from 0 to 65535"),
        (("a", "b"), ConfigError, "nrecognized"),
        (("-x",), ConfigError, "nrecognized"),
        (("--override-generation-config.x",), ConfigError, "needs a value"),
        (("--default-chat-template-kwargs.a=1", "--default-chat-template-kwargs.a.b=1"), ConfigError, "as a value"),
        (("--uvicorn-log-level", "loud"), ConfigError, "one of critical"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(
    arguments: tuple[str, ...], kind: type[ConfigError], expected: str
) -> None:
    with pytest.raises(kind) as caught:
        read(*arguments)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_stands_under_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "model: from/file\nport: 1\nmax-model-len: 4K\nenable_prefix_caching: false\napi-key: [a, b]\nhost:\n"
    )
    asked = read("--port", "2", "--config", str(file))
    assert (asked.engine.model.model, asked.server.port, asked.engine.model.max_model_len) == ("from/file", 2, 4096)
    assert asked.engine.cache.enable_prefix_caching is False and asked.server.api_key == ("a", "b")
    assert asked.engine.origin("port") == "flag --port" and asked.engine.origin("model") == f"file {file}"
    assert asked.server.host == "127.0.0.1"


@pytest.mark.parametrize("content", ["- a", "a: [", "enable-lora: true", "prot: 1", "port: x", "\x00"])
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read("--config", str(file))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        read("--config", "/nowhere.yaml")


def test_the_library_takes_no_flags_of_the_server() -> None:
    with pytest.raises(UnknownFlag):
        read_command_line(["--port", "1"], prog="quire generate", takes_server=False)


@pytest.mark.parametrize(
    ("arguments", "search"), [(("--help",), ""), (("x", "-h"), ""), (("--help=all",), "all"), (("x",), None)]
)
def test_help_is_seen_anywhere(arguments: tuple[str, ...], search: str | None) -> None:
    assert wants_help(arguments) == search


def test_help_names_every_flag_and_explains_them_on_demand() -> None:
    short, full = help_text("quire serve", ""), help_text("quire serve", "all")
    for _, one in all_options():
        assert one.flag in short and one.flag in full
    assert len(full) > len(short) and max(map(len, full.splitlines())) <= 120


def test_help_searches_groups_flags_and_texts() -> None:
    assert "--block-size" in help_text("quire serve", "cache") and "--port" not in help_text("quire serve", "cache")
    assert "--max-model-len" in help_text("quire serve", "--max_model_len")
    assert "--ssl-keyfile" in help_text("quire serve", "TLS")
    assert "adapters" in help_text("quire serve", "enable-lora")
    assert "No option matches" in help_text("quire serve", "zzz")
