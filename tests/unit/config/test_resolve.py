from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from quire import plugins
from quire.config.asked import all_options, engine_options, gather
from quire.config.env import Env
from quire.config.keys import plain_key
from quire.config.machine import Machine
from quire.config.option import accept, read_text
from quire.config.resolve import resolve, resolve_engine
from quire.config.root import Decided
from quire.config.topology import Processor, Topology
from quire.errors import CheckpointError, ConfigError, DoesNotFit, UnsupportedFlag
from tests.unit.config.checkpoints import write_checkpoint, write_tensors

MACHINE = Machine(
    total_bytes=64 * 2**30,
    available_bytes=32 * 2**30,
    num_cores=6,
    topology=Topology(tuple(Processor(cpu, cpu, 0) for cpu in range(6)), (0,)),
)


def decide(model: Path | str, env: Env | None = None, machine: Machine = MACHINE, /, **asked: object) -> Decided:
    values: dict[str, tuple[object, str]] = {
        "model": (str(model), "command line"),
        "load_format": ("dummy", "flag --load-format"),
    }
    values |= {name: (value, f"flag --{name}") for name, value in asked.items()}
    return resolve(gather(values), machine=machine, env=env or Env())


def of_server(name: str) -> Callable[[Decided], object]:
    def read(decided: Decided) -> object:
        assert decided.server is not None
        return getattr(decided.server, name)

    return read


EFFECTS: dict[str, tuple[str, Callable[[Decided], object], object]] = {
    "skip_tokenizer_init": ("true", lambda d: d.text.skip_tokenizer_init, True),
    "dtype": ("half", lambda d: (d.worker.dtype, d.kv.layout.bytes_per_block), ("float16", 8192)),
    "quantization": ("int8", lambda d: d.worker.quantization, "int8"),
    "packed_cache_bytes": ("1G", lambda d: d.worker.packed_cache_bytes, 2**30),
    "enforce_eager": ("true", lambda d: d.worker.enforce_eager, True),
    "max_model_len": ("1K", lambda d: (d.scheduler.max_model_len, d.text.max_model_len), (1024, 1024)),
    "seed": ("7", lambda d: (d.worker.seed, d.text.seed), (7, 7)),
    "max_logprobs": ("-1", lambda d: d.text.max_logprobs, -1),
    "served_model_name": ("nick", of_server("model_names"), ("nick",)),
    "logits_processors": ("m:f", lambda d: (d.worker.logits_processors, d.text.logits_processors), (("m:f",),) * 2),
    "generation_config": ("vllm", lambda d: d.text.defaults.temperature, None),
    "override_generation_config": (
        '{"temperature": 0.25}',
        lambda d: (d.text.defaults.temperature, d.text.defaults.top_k),
        (0.25, 40),
    ),
    "chat_template": ("{{ x }}", lambda d: d.text.chat_template, "{{ x }}"),
    "block_size": ("32", lambda d: d.kv.layout.block_size, 32),
    "gpu_memory_utilization": ("0.5", lambda d: d.plan.budget_bytes, 16 * 2**30),
    "kv_cache_memory_bytes": ("2M", lambda d: d.worker.num_blocks, 256),
    "num_gpu_blocks_override": ("200", lambda d: (d.kv.num_blocks, d.worker.num_blocks), (200, 200)),
    "enable_prefix_caching": ("false", lambda d: d.kv.enable_prefix_caching, False),
    "max_num_seqs": ("3", lambda d: (d.scheduler.max_num_seqs, d.worker.max_num_seqs), (3, 3)),
    "max_num_batched_tokens": (
        "1k",
        lambda d: (d.scheduler.max_num_batched_tokens, d.worker.max_num_batched_tokens),
        (1000, 1000),
    ),
    "scheduling_policy": ("priority", lambda d: d.scheduler.policy, "priority"),
    "long_prefill_token_threshold": ("99", lambda d: d.scheduler.long_prefill_token_threshold, 99),
    "num_threads": ("3", lambda d: d.worker.num_threads, 3),
    "cpu_omp_threads_bind": ("2,3", lambda d: (d.worker.cpus, d.worker.num_threads), ((2, 3), 2)),
    "host": ("0.0.0.0", of_server("host"), "0.0.0.0"),
    "port": ("81", of_server("port"), 81),
    "uds": ("/run/x", of_server("uds"), "/run/x"),
    "api_key": ("k", of_server("keys"), (plain_key("k"),)),
    "root_path": ("/p", of_server("root_path"), "/p"),
    "allowed_origins": ('["o"]', of_server("allowed_origins"), ("o",)),
    "allowed_methods": ('["GET"]', of_server("allowed_methods"), ("GET",)),
    "allowed_headers": ('["h"]', of_server("allowed_headers"), ("h",)),
    "allow_credentials": ("true", of_server("allow_credentials"), True),
    "ssl_cert_reqs": ("2", of_server("ssl_cert_reqs"), 2),
    "response_role": ("bot", of_server("response_role"), "bot"),
    "default_chat_template_kwargs": ('{"a": 1}', of_server("default_chat_template_kwargs"), '{"a": 1}'),
    "return_tokens_as_token_ids": ("true", of_server("returns_tokens_as_token_ids"), True),
    "enable_prompt_tokens_details": ("true", of_server("gives_prompt_tokens_details"), True),
    "enable_force_include_usage": ("true", of_server("forces_usage"), True),
    "enable_server_load_tracking": ("true", of_server("tracks_load"), True),
    "enable_tokenizer_info_endpoint": ("true", of_server("has_tokenizer_info"), True),
    "enable_request_id_headers": ("true", of_server("sends_request_id"), True),
    "disable_fastapi_docs": ("true", of_server("has_docs"), False),
    "max_num_queued_reqs": ("7", of_server("max_queued_rows"), 7),
    "max_num_queued_tokens": ("9k", of_server("max_queued_tokens"), 9000),
    "max_queue_wait": ("30", of_server("max_queue_wait_s"), 30),
    "shutdown_timeout": ("60", of_server("shutdown_timeout_s"), 60),
    "console": ("false", of_server("has_console"), False),
    "sse_keep_alive_interval": ("5", of_server("sse_keep_alive_s"), 5),
    "uvicorn_log_level": ("debug", of_server("log_level"), "debug"),
    "disable_uvicorn_access_log": ("true", of_server("logs_access"), False),
    "enable_log_requests": ("true", of_server("logs_requests"), True),
    "max_log_len": ("9", of_server("max_log_len"), 9),
    "disable_log_stats": ("true", of_server("logs_stats"), False),
}
"""For each option a value, where it shows, and as what."""

ELSEWHERE = {
    "model", "tokenizer", "load_format", "download_dir", "revision", "tokenizer_revision", "hf_token", "kv_cache_dtype",
    "device", "attention_backend", "linear_backend", "ssl_keyfile", "ssl_certfile", "ssl_ca_certs",
    "api_keys_file",
}  # fmt: skip
"""Options whose effect has a test of its own below or, for those of the hub, in test_hub.py."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "m", {"generation_config.json": {"temperature": 0.6, "top_k": 40}})


def test_every_option_has_a_test_of_its_effect() -> None:
    served = {one.name for group, one in all_options() if group != "fixed"}
    assert served == set(EFFECTS) | ELSEWHERE and not set(EFFECTS) & ELSEWHERE


@pytest.mark.parametrize("name", EFFECTS)
def test_an_option_shows_in_what_is_decided_and_names_its_flag(model: Path, name: str) -> None:
    text, read, expected = EFFECTS[name]
    assert read(decide(model)) != expected
    one = next(one for _, one in all_options() if one.name == name)
    decided = decide(model, **{name: accept(one, read_text(one, text))})
    assert read(decided) == expected
    noted = {decision.name: decision for decision in decided.decisions}
    if name not in ("num_gpu_blocks_override", "override_generation_config"):
        assert noted[name].origin == f"flag --{name}"


def test_every_decided_value_has_an_origin_and_a_reason(model: Path) -> None:
    decided = decide(model)
    assert all(one.origin and one.reason and one.value != "" for one in decided.decisions)
    assert len(decided.reasons) == len(decided.decisions)


def test_options_that_change_nothing_are_answered_once(model: Path) -> None:
    decided = decide(model, trust_remote_code=True, swap_space=4.0, disable_log_requests=True)
    assert [notice.split()[0] for notice in decided.notices] == [
        "--trust-remote-code", "--swap-space", "--disable-log-requests",
    ]  # fmt: skip
    assert decide(model, trust_remote_code=False).notices == ()


def test_a_checkpoint_without_weights_is_refused_unless_dummies_will_do(model: Path) -> None:
    with pytest.raises(CheckpointError, match="--load-format dummy"):
        decide(model, load_format="auto")
    write_tensors(model / "model.safetensors", {"a": (1,)})
    assert decide(model, load_format="auto").worker.load_format == "safetensors"
    assert decide(model).worker.load_format == "dummy"


def test_a_tokenizer_may_live_elsewhere(model: Path, tmp_path: Path) -> None:
    assert decide(model).text.tokenizer_path == str(model)
    assert decide(model, tokenizer=str(tmp_path)).text.tokenizer_path == str(tmp_path)


def test_float32_stays_float32_unless_asked(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, torch_dtype="float32")
    decided = decide(folder)
    assert decided.worker.dtype == "float32" and "own type" in decided.reasons["dtype"]
    assert decide(folder, dtype="bfloat16").worker.dtype == "bfloat16"


@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text"])
def test_float16_is_not_for_models_that_overflow_in_it(tmp_path: Path, model_type: str) -> None:
    folder = write_checkpoint(tmp_path, model_type=model_type, torch_dtype="float16", head_dim=16)
    assert decide(folder).worker.dtype == "bfloat16"
    with pytest.raises(ConfigError, match="overflows in float16"):
        decide(folder, dtype="half")


def test_kv_is_kept_in_the_models_type(model: Path) -> None:
    assert decide(model, kv_cache_dtype="bfloat16").worker.dtype == "bfloat16"
    assert decide(model, kv_cache_dtype="bfloat16").worker.kv_type is None


@pytest.mark.parametrize(
    ("asked", "kv_type", "of_a_head"),
    [
        ("auto", None, 2 * 16),
        ("fp8", "fp8_e4m3", 16),
        ("fp8_e4m3", "fp8_e4m3", 16),
        ("int8", "int8_per_token_head", 16 + 4),
        ("int8_per_token_head", "int8_per_token_head", 16 + 4),
    ],
)
def test_kv_in_eight_bits_takes_as_many_bytes_as_it_says(
    model: Path, asked: str, kv_type: str | None, of_a_head: int
) -> None:
    decided = decide(model, kv_cache_dtype=asked)
    card, layout = decided.card, decided.worker.layout
    assert card.head_size == 16 and decided.worker.kv_type == kv_type
    of_a_token = 2 * card.num_kv_heads * of_a_head
    assert layout.bytes_per_block == layout.block_size * layout.layers_per_block * of_a_token
    assert decided.plan.kv_bytes == decided.plan.num_blocks * layout.bytes_per_block


@pytest.mark.parametrize(
    ("asked", "reason"), [("fp8_e5m2", "take fp8"), ("float32", "fp8 or int8"), ("nvfp4", "fp8 or int8")]
)
def test_other_types_of_kv_are_refused_with_the_reason(model: Path, asked: str, reason: str) -> None:
    with pytest.raises(UnsupportedFlag, match=f"--kv-cache-dtype {asked} is not served: .*{reason}"):
        decide(model, kv_cache_dtype=asked)


def test_the_device_and_its_backend_come_from_the_shelves(model: Path) -> None:
    assert decide(model, device="cpu", attention_backend="TORCH_SDPA").worker.attention_backend == "torch_sdpa"
    assert decide(model).worker.device == "cpu"
    with pytest.raises(UnsupportedFlag, match="--device cuda is not served yet"):
        decide(model, device="cuda")
    with pytest.raises(UnsupportedFlag, match="FLASH_ATTN"):
        decide(model, attention_backend="FLASH_ATTN")


def test_the_native_kernels_multiply_where_they_were_built(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    platform = plugins.load("platforms", "cpu")
    monkeypatch.setattr(platform, "linear_backends", lambda: ("native", "torch"))
    assert decide(model).worker.linear_backend == "native"
    assert decide(model, linear_backend="torch").worker.linear_backend == "torch"
    monkeypatch.setattr(platform, "linear_backends", lambda: ("torch",))
    assert decide(model).worker.linear_backend == "torch"
    with pytest.raises(UnsupportedFlag, match="installed without its kernels"):
        decide(model, linear_backend="native")


def test_threads_follow_the_machine_and_the_environment(model: Path) -> None:
    assert decide(model).worker.num_threads == 6
    assert decide(model, Env(num_threads=2)).worker.num_threads == 2
    assert decide(model, Env(num_threads=64)).worker.num_threads == 6
    assert decide(model, Env(num_threads=2), num_threads=5).worker.num_threads == 5


def test_bounds_of_a_step_depend_on_the_use(model: Path) -> None:
    server = decide(model).scheduler
    options = engine_options(model=str(model), load_format="dummy")
    library = resolve_engine(options, "llm", machine=MACHINE, env=Env())
    assert (server.max_num_seqs, server.max_num_batched_tokens) == (128, 2048)
    assert (library.scheduler.max_num_seqs, library.scheduler.max_num_batched_tokens) == (256, 4096)
    assert library.server is None


def test_a_step_always_has_a_token_for_each_sequence(model: Path) -> None:
    few = decide(model, max_num_batched_tokens=50).scheduler
    assert (few.max_num_seqs, few.max_num_batched_tokens) == (50, 50)
    many = decide(model, max_num_seqs=5000).scheduler
    assert (many.max_num_seqs, many.max_num_batched_tokens) == (5000, 5000)
    with pytest.raises(ConfigError, match="at least one token"):
        decide(model, max_num_seqs=51, max_num_batched_tokens=50)


def test_an_unknown_policy_is_answered_with_the_shelf(model: Path) -> None:
    with pytest.raises(ConfigError, match="fcfs, priority"):
        decide(model, scheduling_policy="lottery")


def test_auto_takes_the_longest_context_that_fits_in_silence(model: Path) -> None:
    assert decide(model, max_model_len=-1).plan.max_model_len == 2048
    decided = decide(model, max_model_len=-1, num_gpu_blocks_override=10)
    assert decided.plan.max_model_len == 160 and decided.notices == ()


def test_a_context_that_shrank_is_said(model: Path) -> None:
    decided = decide(model, num_gpu_blocks_override=10)
    assert decided.scheduler.max_model_len == decided.text.max_num_tokens == 160
    assert "160 tokens, not the checkpoint's 2048" in decided.notices[0]


def test_a_context_that_was_asked_for_fits_or_is_refused(model: Path) -> None:
    with pytest.raises(DoesNotFit, match="The largest context that fits is 160"):
        decide(model, num_gpu_blocks_override=10, max_model_len=161)
    with pytest.raises(ConfigError, match="more than the 2048 tokens"):
        decide(model, max_model_len=4096)
    with pytest.raises(ConfigError, match="give one"):
        decide(model, num_gpu_blocks_override=10, kv_cache_memory_bytes=10**6)


def test_too_little_memory_is_refused_before_loading(model: Path) -> None:
    with pytest.raises(DoesNotFit, match="No context fits"):
        decide(model, Env(), Machine(2**28, 2**28, 1))


def test_a_window_that_the_context_never_fills_is_none(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, model_type="gemma2", sliding_window=512, head_dim=16)
    assert len(decide(folder).kv.layout.groups) == 2
    assert len(decide(folder, max_model_len=512).kv.layout.groups) == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [('{"temprature": 1}', "'temprature' is no sampling default"), ('{"top_p": 7}', "top_p is 7")],
)
def test_wrong_sampling_defaults_are_refused(model: Path, value: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        decide(model, override_generation_config=json.loads(value))


def test_sampling_defaults_may_come_from_another_folder(model: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "o", {"generation_config.json": {"top_p": 0.5}})
    defaults = decide(model, generation_config=str(other)).text.defaults
    assert (defaults.top_p, defaults.temperature) == (0.5, None)
    with pytest.raises(ConfigError, match=r"no generation_config\.json"):
        decide(model, generation_config=str(tmp_path))


def test_a_template_may_be_a_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("{{ messages }}")
    assert decide(model, chat_template=str(tmp_path / "t.jinja")).text.chat_template == "{{ messages }}"
    with pytest.raises(ConfigError, match="no such template file"):
        decide(model, chat_template="missing.jinja")
    (tmp_path / "empty.jinja").write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        decide(model, chat_template=str(tmp_path / "empty.jinja"))


def test_keys_come_from_the_environment_when_none_are_given(model: Path) -> None:
    env = Env(api_keys=("from-env",))
    assert of_server("keys")(decide(model, env)) == (plain_key("from-env"),)
    assert of_server("keys")(decide(model, env, api_key="flag")) == (plain_key("flag"),)
    with pytest.raises(ConfigError, match="--api-key is empty"):
        decide(model, api_key="")


def test_keys_of_a_file_are_served_beside_those_of_the_flag(model: Path, tmp_path: Path) -> None:
    listed = tmp_path / "keys.yaml"
    listed.write_text(f"keys: [{{name: one, sha256: {plain_key('s3cret').sha256}}}]")
    decided = decide(model, api_key="flag", api_keys_file=str(listed))
    assert [key.name for key in of_server("keys")(decided)] == ["", "one"]


def test_no_key_is_ever_shown(model: Path) -> None:
    decided = decide(model, api_key="s3cret")
    assert "s3cret" not in str(decided.decisions)


def test_tls_needs_key_and_certificate_that_exist(model: Path, tmp_path: Path) -> None:
    for name in ("key", "cert", "ca"):
        (tmp_path / name).write_text("x")
    key, cert, authority = (str(tmp_path / name) for name in ("key", "cert", "ca"))
    decided = decide(model, ssl_keyfile=key, ssl_certfile=cert, ssl_ca_certs=authority)
    assert decided.server is not None
    assert (decided.server.ssl_keyfile, decided.server.ssl_certfile, decided.server.ssl_ca_certs) == (
        key,
        cert,
        authority,
    )
    with pytest.raises(ConfigError, match="belong together"):
        decide(model, ssl_keyfile=key)
    with pytest.raises(ConfigError, match="no such file"):
        decide(model, ssl_keyfile=key, ssl_certfile=str(tmp_path / "nope"))


@pytest.mark.parametrize("level", ["critical", "error", "warning", "info", "debug", "trace"])
def test_every_level_of_the_log_is_one_that_logging_knows(model: Path, level: str) -> None:
    decided = of_server("log_level")(decide(model, uvicorn_log_level=level))
    assert str(decided).upper() in logging.getLevelNamesMapping()


def test_the_served_name_is_the_model_unless_given(model: Path) -> None:
    assert of_server("model_names")(decide(model)) == (str(model),)
    assert of_server("model_names")(decide(model, served_model_name=["a", "b"])) == ("a", "b")
