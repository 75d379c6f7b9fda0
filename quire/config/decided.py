"""The decided configuration: one frozen slice for each class that reads one.

Nothing here is optional or "auto" any more. The slices travel to the engine's process as bytes, so their fields are
plain values.

Not here: what may be asked (options in model.py, cache.py, ...), who decides (resolve.py), which sees them all
(root.py).
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from quire.config.keys import ApiKey

DType = Literal["bfloat16", "float16", "float32"]
KVType = Literal["fp8_e4m3", "int8_per_token_head"]
"""Types of KV that are not a model's own."""
LoadFormat = Literal["safetensors", "dummy"]
LinearBackend = Literal["native", "torch"]
Policy = str
"""Name of a file on the shelf scheduler/policies."""


class KVGroup(Struct, frozen=True):
    """Layers that share a block table. ``window``: how many tokens, itself included, a token attends to; None: all."""

    window: int | None
    layers: tuple[int, ...]


class KVLayout(Struct, frozen=True):
    """How KV lies in blocks: every block can serve any group.

    A block holds ``block_size`` tokens of up to ``layers_per_block`` layers; layer ``groups[g].layers[i]`` uses the
    block's plane i.
    """

    block_size: int
    groups: tuple[KVGroup, ...]
    layers_per_block: int
    bytes_per_block: int


class KVConfig(Struct, frozen=True):
    """Read by kvcache/: the accounting of blocks."""

    layout: KVLayout
    num_blocks: int
    enable_prefix_caching: bool = True


class SchedulerConfig(Struct, frozen=True):
    """Read by scheduler/. Tokens and sequences are counted a step."""

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    policy: Policy = "fcfs"
    long_prefill_token_threshold: int = 0
    """0: a prefill takes at most its fair share of the step when others wait (see scheduler/budget.py); k: never more
    than k tokens.
    """


class WorkerConfig(Struct, frozen=True):
    """Read by worker/: everything to load a model and run it on one device."""

    model_path: str
    device: str
    dtype: DType
    load_format: LoadFormat
    layout: KVLayout
    num_blocks: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    attention_backend: str = "torch_sdpa"
    linear_backend: LinearBackend = "torch"
    kv_type: KVType | None = None
    """None: KV in the model's own type."""
    quantization: str | None = None
    """Name of a file on the shelf quant; None: weights in the model's own type."""
    packed_cache: str = ""
    packed_cache_bytes: int = 0
    """Where quantised weights are kept between starts, and the most that they may take; 0: they are not kept."""
    enforce_eager: bool = False
    """No step is recorded (worker/launch.py)."""
    num_threads: int = 0
    """0: as many as the machine lets this process use."""
    cpus: tuple[int, ...] = ()
    """Processors that the worker's threads keep to; none: any."""
    memory_nodes: tuple[int, ...] = ()
    """Nodes that its memory should lie on; none: wherever it is first written."""
    seed: int = 0
    """Of dummy weights."""
    logits_processors: tuple[str, ...] = ()
    shows_progress: bool = False


class EngineConfig(Struct, frozen=True):
    """Read by the engine's process: the slices of what it builds, and nothing of text or HTTP."""

    scheduler: SchedulerConfig
    kv: KVConfig
    worker: WorkerConfig
    executor: str = "inline"
    """Name of a file on the shelf engine/executors."""
    log_level: str = "info"


class GenerationDefaults(Struct, frozen=True):
    """Sampling defaults of the model; None where it does not say."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    max_tokens: int | None = None


class TextConfig(Struct, frozen=True):
    """Read by text/: tokens, templates, and the bounds of what a request may ask."""

    tokenizer_path: str
    vocab_size: int
    """Width of the logits: every id must be below."""
    max_model_len: int
    max_num_tokens: int
    """Largest prompt + output that the block pool can ever hold."""
    eos_token_ids: tuple[int, ...] = ()
    defaults: GenerationDefaults = field(default_factory=GenerationDefaults)
    max_logprobs: int = 20
    """-1: no bound."""
    max_n: int = 128
    seed: int = 0
    chat_template: str | None = None
    """A template's text that replaces the checkpoint's."""
    logits_processors: tuple[str, ...] = ()
    skip_tokenizer_init: bool = False


class ServerConfig(Struct, frozen=True):
    """Read by server/."""

    model_names: tuple[str, ...]
    """Names the server answers to; the first is echoed."""
    model_root: str
    max_model_len: int
    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    keys: tuple[ApiKey, ...] = ()
    """One of which is needed; none: nobody needs any."""
    root_path: str = ""
    allowed_origins: tuple[str, ...] = ()
    allowed_methods: tuple[str, ...] = ("*",)
    allowed_headers: tuple[str, ...] = ("*",)
    allow_credentials: bool = False
    ssl_keyfile: str | None = None
    ssl_certfile: str | None = None
    ssl_ca_certs: str | None = None
    ssl_cert_reqs: int = 0
    response_role: str = "assistant"
    log_level: str = "info"
    logs_access: bool = True
    logs_requests: bool = False
    max_log_len: int | None = None
    logs_stats: bool = True
    stats_interval_s: float = 10.0
    sends_request_id: bool = False
    forces_usage: bool = False
    gives_prompt_tokens_details: bool = False
    returns_tokens_as_token_ids: bool = False
    max_queued_rows: int | None = None
    max_queued_tokens: int | None = None
    max_queue_wait_s: int = 0
    """0: however long."""
    has_docs: bool = True
    has_console: bool = True
    has_tokenizer_info: bool = False
    tracks_load: bool = False
    max_body_bytes: int = 32 * 1024 * 1024
    keep_alive_s: int = 5
    sse_keep_alive_s: int = 0
    shutdown_timeout_s: int = 5
    default_chat_template_kwargs: str = "{}"
    """A JSON object of template variables for every request."""
