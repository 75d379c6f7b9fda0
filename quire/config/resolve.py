"""Asked + card + machine -> decided, each value with its reason.

Not here: the arithmetic of memory (fit.py), what has a file of its own (decide_quantization.py, decide_server.py,
decide_text.py).
Door: resolve, resolve_engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

from msgspec import Struct

from quire import plugins
from quire.config.asked import Asked, EngineOptions
from quire.config.card import Card, read_card
from quire.config.decide_kv import decide_kv
from quire.config.decide_quantization import decide_packed_cache, decide_quantization, scheme_of
from quire.config.decide_server import decide_server
from quire.config.decide_text import decide_text
from quire.config.decide_threads import Threads, decide_threads
from quire.config.decided import DType, KVConfig, KVLayout, LinearBackend, SchedulerConfig, WorkerConfig
from quire.config.env import Env, read_env
from quire.config.fit import Demand, Kernels, MemoryPlan, Room, fit
from quire.config.fixed import FixedOptions
from quire.config.hub import Source, locate
from quire.config.ledger import Ledger
from quire.config.machine import Machine, read_machine
from quire.config.model import AUTO
from quire.config.option import options_of
from quire.config.root import Decided
from quire.config.units import in_bytes
from quire.errors import CheckpointError, ConfigError, UnsupportedFlag

Usage = Literal["server", "llm"]

_SPELLINGS: dict[str, DType] = {"half": "float16", "float": "float32"}
_NO_FLOAT16 = ("gemma2", "gemma3_text")
_MAX_NUM_SEQS: dict[Usage, int] = {"llm": 256, "server": 128}
_MAX_NUM_BATCHED_TOKENS: dict[Usage, int] = {"llm": 4096, "server": 2048}


class Device(Struct, frozen=True):
    """Where to compute: a platform by name, what attends and what multiplies, threads."""

    name: str
    dtypes: tuple[DType, ...]
    attention_backend: str
    linear_backend: LinearBackend
    threads: Threads


def resolve(asked: Asked, *, machine: Machine | None = None, env: Env | None = None) -> Decided:
    """Decide everything for a server.

    Raises: ConfigError for options that cannot be had, DoesNotFit with the numbers, CheckpointError for the model.
    """
    env = read_env() if env is None else env
    decided, ledger = _resolve(asked.engine, "server", machine or read_machine(), env)
    server = decide_server(
        asked, decided.card, decided.plan, env, ledger, max_num_seqs=decided.scheduler.max_num_seqs
    )
    return _sealed(decided, ledger, server=server)


def resolve_engine(
    options: EngineOptions, usage: Usage, *, machine: Machine | None = None, env: Env | None = None
) -> Decided:
    """Decide everything but a server.

    Raises: as resolve.
    """
    decided, ledger = _resolve(options, usage, machine or read_machine(), read_env() if env is None else env)
    return _sealed(decided, ledger)


def _sealed(decided: Decided, ledger: Ledger, **changes: object) -> Decided:
    from msgspec.structs import replace

    return replace(decided, decisions=tuple(ledger.decisions), notices=tuple(ledger.notices), **changes)


def _resolve(options: EngineOptions, usage: Usage, machine: Machine, env: Env) -> tuple[Decided, Ledger]:
    ledger = Ledger(options.origins)
    _tell_what_changes_nothing(options, ledger)
    card, tokenizer_path = _find(options, env, ledger)
    device = _device(options, machine, env, ledger)
    dtype = _dtype(options, card, device, ledger)
    max_num_seqs, max_num_batched_tokens = _step_bounds(options, usage, ledger)
    quantization = decide_quantization(options.model.quantization, card, ledger)
    packed_cache, packed_cache_bytes = decide_packed_cache(options, env, ledger)
    kv_type, layout = decide_kv(options, card, dtype, plugins.load("platforms", device.name).KV_TYPES, ledger)
    scheme = scheme_of(quantization)
    kernels = Kernels(device.attention_backend, device.linear_backend, device.threads.number, scheme, kv_type)
    plan = _fit(options, card, dtype, layout, (max_num_seqs, max_num_batched_tokens), machine, kernels)
    _note_memory(options, card, plan, ledger)
    if options.scheduler.scheduling_policy not in plugins.names("scheduler.policies"):
        shelf = ", ".join(plugins.names("scheduler.policies"))
        raise ConfigError(f"--scheduling-policy {options.scheduler.scheduling_policy} is not one of: {shelf}.")
    ledger.note("scheduling_policy", options.scheduler.scheduling_policy, "whose turn it is")
    threshold = options.scheduler.long_prefill_token_threshold
    ledger.note("long_prefill_token_threshold", threshold, "0: a prompt takes its fair share of a step")
    ledger.note(
        "enable_prefix_caching", options.cache.enable_prefix_caching, "prompts that begin alike are computed once"
    )
    ledger.note("enforce_eager", options.model.enforce_eager, "false: steps of decode are recorded once and repeated")
    ledger.note("seed", options.model.seed, "of dummy weights, and of requests of LLM without a seed")
    scheduler = SchedulerConfig(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_model_len=plan.max_model_len,
        policy=options.scheduler.scheduling_policy,
        long_prefill_token_threshold=threshold,
    )
    worker = WorkerConfig(
        model_path=card.path,
        device=device.name,
        dtype=dtype,
        load_format="dummy" if options.load.load_format == "dummy" else "safetensors",
        layout=layout,
        num_blocks=plan.num_blocks,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_model_len=plan.max_model_len,
        attention_backend=device.attention_backend,
        linear_backend=device.linear_backend,
        kv_type=kv_type,
        quantization=quantization,
        packed_cache=packed_cache,
        packed_cache_bytes=packed_cache_bytes,
        enforce_eager=options.model.enforce_eager,
        num_threads=device.threads.number,
        cpus=device.threads.placement.cpus,
        memory_nodes=device.threads.placement.nodes,
        seed=options.model.seed,
        logits_processors=options.model.logits_processors,
        shows_progress=usage == "server",
    )
    decided = Decided(
        card=card,
        kv=KVConfig(layout, plan.num_blocks, options.cache.enable_prefix_caching),
        scheduler=scheduler,
        worker=worker,
        text=decide_text(options, card, plan, str(tokenizer_path), ledger),
        server=None,
        plan=plan,
    )
    return decided, ledger


def _tell_what_changes_nothing(options: EngineOptions, ledger: Ledger) -> None:
    for one in options_of(FixedOptions):
        if one.notice and getattr(options.fixed, one.name) != one.default:
            ledger.warn(f"{one.flag} changes nothing: {one.notice}")


def _find(options: EngineOptions, env: Env, ledger: Ledger) -> tuple[Card, Path]:
    name, load = options.model.model, options.load
    is_dummy = load.load_format == "dummy"
    source = Source(
        revision=load.revision,
        download_dir=load.download_dir,
        token=load.hf_token,
        is_offline=env.is_offline,
        needs_weights=not is_dummy,
    )
    path = locate(name, source)
    card = read_card(path)
    if not is_dummy and not card.has_weights:
        raise CheckpointError(f"{path}: has no .safetensors weights; --load-format dummy makes random ones.")
    ledger.note("model", name, f"{card.architecture or card.model_type} at {path}")
    ledger.note("load_format", "dummy" if is_dummy else "safetensors", f"{card.num_tensors} tensors in the checkpoint")
    tokenizer_path = path
    tokenizer_revision = load.tokenizer_revision
    if options.model.tokenizer is not None or tokenizer_revision is not None:
        text_source = Source(
            revision=tokenizer_revision,
            download_dir=load.download_dir,
            token=load.hf_token,
            is_offline=env.is_offline,
            needs_weights=False,
        )
        tokenizer_path = locate(options.model.tokenizer or name, text_source)
    ledger.note("tokenizer", tokenizer_path, "the model's folder" if tokenizer_path == path else "asked for")
    return card, tokenizer_path


def _device(options: EngineOptions, machine: Machine, env: Env, ledger: Ledger) -> Device:
    shelf = plugins.names("platforms")
    name = options.device.device
    if name == "auto":
        name = "cpu"
        ledger.note("device", name, "the CPU is the platform that Quire serves so far", source="machine")
    elif name not in shelf:
        raise UnsupportedFlag(f"--device {name} is not served yet; these are: auto, {', '.join(shelf)}.")
    else:
        ledger.note("device", name, "asked for")
    platform = plugins.load("platforms", name)
    order: tuple[str, ...] = platform.ATTENTION_BACKENDS
    asked = options.device.attention_backend
    backends = plugins.names("attention")
    backend = order[0] if asked is None else asked.lower()
    if backend not in backends:
        raise UnsupportedFlag(f"--attention-backend {asked} is not on the shelf; it has: {', '.join(backends)}.")
    ledger.note(
        "attention_backend",
        backend,
        f"first of the platform's order: {', '.join(order)}" if asked is None else "asked for",
    )
    linear = _linear_backend(options, platform.linear_backends(), ledger)
    threads = decide_threads(options.device, machine, env, ledger)
    return Device(name, platform.DTYPES, backend, linear, threads)


def _linear_backend(options: EngineOptions, order: tuple[LinearBackend, ...], ledger: Ledger) -> LinearBackend:
    asked = options.device.linear_backend
    if asked == "auto":
        reason = "the best that this platform has" if order[0] == "native" else "Quire was built without its kernels"
        ledger.note("linear_backend", order[0], reason)
        return order[0]
    found = next((backend for backend in order if backend == asked), None)
    if found is None:
        raise UnsupportedFlag(
            f"--linear-backend {asked} cannot be had: Quire was installed without its kernels. Install a C++ compiler "
            "and Python's headers, then Quire again; or take torch."
        )
    ledger.note("linear_backend", found, "asked for")
    return found


def _dtype(options: EngineOptions, card: Card, device: Device, ledger: Ledger) -> DType:
    asked = options.model.dtype
    if asked == "auto":
        dtype = card.dtype
        reason = "the checkpoint's own type, so that its numbers are kept"
        if dtype == "float16" and card.model_type in _NO_FLOAT16:
            dtype, reason = "bfloat16", f"{card.model_type} overflows in float16, the checkpoint's type"
        ledger.note("dtype", dtype, reason, source="checkpoint")
    else:
        dtype = _SPELLINGS.get(asked) or cast(DType, asked)
        if dtype == "float16" and card.model_type in _NO_FLOAT16:
            raise ConfigError(f"--dtype {asked}: {card.model_type} overflows in float16; take bfloat16 or float32.")
        kept = "the checkpoint's own type" if dtype == card.dtype else f"converted from {card.dtype} when loaded"
        ledger.note("dtype", dtype, kept)
    if dtype not in device.dtypes:
        raise ConfigError(f"--dtype {dtype} cannot be had on {device.name}; it computes in {', '.join(device.dtypes)}.")
    return dtype


def _step_bounds(options: EngineOptions, usage: Usage, ledger: Ledger) -> tuple[int, int]:
    asked_seqs, asked_tokens = options.scheduler.max_num_seqs, options.scheduler.max_num_batched_tokens
    seqs, tokens = asked_seqs or _MAX_NUM_SEQS[usage], asked_tokens or _MAX_NUM_BATCHED_TOKENS[usage]
    where = "LLM" if usage == "llm" else "the server"
    seqs_reason = tokens_reason = f"the default of {where} on a CPU"
    if asked_seqs is not None and asked_tokens is not None and asked_seqs > asked_tokens:
        raise ConfigError(
            f"--max-num-batched-tokens {asked_tokens} is less than --max-num-seqs {asked_seqs}; each sequence of a "
            "step "
            "needs at least one token."
        )
    if seqs > tokens:
        if asked_seqs is None:
            seqs, seqs_reason = tokens, "each sequence of a step needs one of its tokens"
        else:
            tokens, tokens_reason = seqs, "each sequence of a step needs at least one token"
    ledger.note("max_num_seqs", seqs, "asked for" if asked_seqs else seqs_reason)
    ledger.note("max_num_batched_tokens", tokens, "asked for" if asked_tokens else tokens_reason)
    return seqs, tokens


def _fit(
    options: EngineOptions,
    card: Card,
    dtype: DType,
    layout: KVLayout,
    bounds: tuple[int, int],
    machine: Machine,
    kernels: Kernels,
) -> MemoryPlan:
    asked = options.model.max_model_len
    is_exact = asked not in (None, AUTO)
    longest = asked if is_exact and asked is not None else card.max_model_len
    if longest > card.max_model_len:
        raise ConfigError(
            f"--max-model-len {longest} is more than the {card.max_model_len} tokens that the checkpoint was made for; "
            "beyond them it writes nonsense."
        )
    cache = options.cache
    if cache.kv_cache_memory_bytes is not None and cache.num_gpu_blocks_override is not None:
        raise ConfigError("--kv-cache-memory-bytes and --num-gpu-blocks-override both set the size of KV; give one.")
    demand = Demand(card, dtype, layout, bounds[0], bounds[1], longest, is_exact, kernels)
    room = Room(
        machine.available_bytes,
        machine.limited_by,
        fraction=cache.gpu_memory_utilization,
        kv_bytes=cache.kv_cache_memory_bytes,
        num_blocks=cache.num_gpu_blocks_override,
    )
    return fit(demand, room)


def _note_memory(options: EngineOptions, card: Card, plan: MemoryPlan, ledger: Ledger) -> None:
    asked, length = options.model.max_model_len, plan.max_model_len
    if asked not in (None, AUTO):
        reason = f"asked for; the checkpoint takes up to {card.max_model_len}"
    elif length == card.max_model_len:
        reason = "the checkpoint's whole context"
    else:
        reason = f"the longest that fits; the checkpoint takes up to {card.max_model_len}"
        if asked is None:
            ledger.warn(
                f"The context is {length} tokens, not the checkpoint's {card.max_model_len}: no more KV fits "
                f"({plan.num_blocks} blocks, {in_bytes(plan.kv_bytes)}). quire plan shows the numbers."
            )
    ledger.note("max_model_len", length, reason, source="checkpoint" if length == card.max_model_len else "machine")
    ledger.note("block_size", plan.block_size, "tokens of one KV block")
    budget = f"{in_bytes(plan.budget_bytes)} of {in_bytes(plan.available_bytes)} available ({plan.memory_limited_by})"
    ledger.note("gpu_memory_utilization", round(plan.budget_bytes / max(1, plan.available_bytes), 2), budget)
    ledger.note(
        "kv_cache_memory_bytes", plan.kv_bytes, f"{in_bytes(plan.kv_bytes)}: {plan.limited_by}", source="machine"
    )
    ledger.note("num_gpu_blocks", plan.num_blocks, f"{plan.num_full_sequences} whole contexts", source="machine")
