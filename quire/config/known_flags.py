"""Flags of vLLM that Quire knows but does not serve, so that a command from elsewhere gets an answer and not a riddle.

Not here: flags with one value so far (fixed.py), flags that Quire serves (the slices).
Door: area_of.
"""

from __future__ import annotations

_AREAS = {
    "process layout": "api-server-count grpc headless",
    "API behaviour": (
        "anthropic-disabled-thinking-effort chat-template-content-format cohere-format cohere-is-reasoning-model "
        "enable-auto-tool-choice enable-log-deltas enable-log-outputs enable-per-request-metrics enable-scale-out "
        "exclude-tools-when-tool-choice-none fingerprint-mode fingerprint-value log-error-stack lora-modules "
        "tokens-only tool-call-parser tool-parser-plugin tool-server tool-strict-level trust-request-chat-template "
        "trust-request-mm-kwargs"
    ),
    "HTTP server": (
        "data-parallel-supervisor-port disable-access-log-for-endpoints dp-supervisor-probe-failure-threshold "
        "dp-supervisor-probe-interval-s dp-supervisor-probe-timeout-s enable-flash-late-interaction "
        "enable-offline-docs "
        "enable-ssl-refresh grpc-port h11-max-header-count h11-max-incomplete-event-size middleware ssl-ciphers"
    ),
    "model": (
        "allow-deprecated-quantization allowed-local-media-path allowed-media-domains code-revision config-format "
        "convert disable-cascade-attn disable-sliding-window enable-cumem-allocator enable-nccl-comm-suspend "
        "enable-prompt-embeds enable-return-routed-experts enable-sleep-mode enable-trace-replay hf-config-path "
        "hf-overrides io-processor-plugin logprobs-mode model-class-overrides model-impl pooler-config "
        "quantization-config renderer-num-workers return-sampling-mask sleep-mode-offload-cudagraph "
        "sleep-preserve-parameter-names use-fp64-gumbel"
    ),
    "loading": (
        "ignore-patterns model-loader-extra-config pt-load-map-location safetensors-load-strategy "
        "safetensors-prefetch-block-size safetensors-prefetch-num-threads use-tqdm-on-load"
    ),
    "state space models": (
        "enable-mamba-cache-stochastic-rounding mamba-backend mamba-cache-philox-rounds mamba-ssu-algorithm"
    ),
    "structured outputs and reasoning": "reasoning-parser reasoning-parser-plugin",
    "several devices": (
        "all2all-backend cp-kv-cache-interleave-size cpu-distributed-timeout-seconds data-parallel-address "
        "data-parallel-backend data-parallel-external-lb data-parallel-hybrid-lb data-parallel-multi-port-external-lb "
        "data-parallel-rank data-parallel-rpc-port data-parallel-size-local data-parallel-start-rank "
        "dbo-decode-token-threshold dbo-prefill-token-threshold dcp-comm-backend dcp-kv-cache-interleave-size "
        "dcp-q-replicate decode-context-parallel-size device-ids disable-custom-all-reduce "
        "disable-nccl-for-dp-synchronization distributed-timeout-seconds dp-sync-interval elastic-ep-max-dp-size "
        "enable-batch-sharded-sampling enable-dbo enable-elastic-ep enable-ep-weight-filter enable-eplb "
        "enable-expert-parallel enable-fault-tolerance enable-hc-sp enable-shm-tensor-arena eplb-config "
        "expert-placement-strategy fault-tolerance-config master-addr master-port max-parallel-loading-workers nnodes "
        "node-rank numa-bind numa-bind-cpus numa-bind-nodes prefill-context-parallel-size ray-workers-use-nsight "
        "ubatch-size worker-cls worker-extension-cls"
    ),
    "KV cache": (
        "enable-mamba-shared-prefix-checkpoint kv-cache-dtype-skip-layers kv-offloading-backend kv-offloading-size "
        "kv-sharing-fast-prefill mamba-block-size mamba-cache-dtype mamba-cache-mode mamba-ssm-cache-dtype "
        "prefix-cache-retention-interval prefix-caching-hash-algo prefix-match-unit replayssm-buffer-len "
        "swa-bounded-replay use-replayssm"
    ),
    "weight offloading": (
        "cpu-offload-gb cpu-offload-params offload-backend offload-group-size offload-num-in-group offload-params "
        "offload-prefetch-step"
    ),
    "images, audio and video": (
        "enable-mm-embeds interleave-mm-strings language-model-only limit-mm-per-prompt media-io-kwargs "
        "mm-device-do-normalize mm-encoder-attn-backend mm-encoder-attn-dtype mm-encoder-fp8-scale-path "
        "mm-encoder-fp8-scale-save-margin mm-encoder-fp8-scale-save-path mm-encoder-only mm-encoder-tp-mode "
        "mm-hasher-algorithm mm-ipc-gpu-memory-gb mm-processor-cache-gb mm-processor-cache-type mm-processor-device "
        "mm-processor-kwargs mm-shm-cache-max-object-size-mb mm-tensor-ipc skip-mm-profiling video-pruning-method "
        "video-pruning-rate"
    ),
    "adapters": (
        "default-mm-loras enable-lora enable-mixed-moe-lora-format enable-moe-shared-loras enable-tower-connector-lora "
        "fully-sharded-loras lora-dtype lora-target-modules max-cpu-loras max-lora-cls-labels max-lora-rank max-loras "
        "specialize-active-lora"
    ),
    "logging": "log-config-file log-level logging-config",
    "observability": (
        "collect-detailed-traces cudagraph-metrics custom-histogram-buckets enable-layerwise-nvtx-tracing "
        "enable-logging-iteration-details enable-mfu-metrics jit-monitor-mode jit-monitor-verbose kv-cache-metrics "
        "kv-cache-metrics-sample otlp-traces-endpoint per-request-spec-decode-metrics show-hidden-metrics-for-version"
    ),
    "scheduling": (
        "async-scheduling disable-chunked-mm-input disable-hybrid-kv-cache-manager "
        "long-prefill-token-threshold-adaptive max-num-active-seqs "
        "max-num-scheduled-tokens prefill-schedule-interval scheduler-cls scheduler-reserve-full-isl stream-interval "
        "watermark"
    ),
    "compilation": "cudagraph-capture-sizes max-cudagraph-capture-size",
    "kernels": "enable-flashinfer-autotune ir-op-priority moe-backend sparse-indexer-topk-backend",
    "configuration by JSON": (
        "additional-config attention-config aux-output-config compilation-config diffusion-config ec-manager-config "
        "ec-transfer-config enable-mm-processor-stats engram-config kernel-config kv-events-config kv-transfer-config "
        "mamba-config model-weights optimization-level performance-mode profiler-config reasoning-config spec-method "
        "spec-model spec-tokens speculative-config structured-outputs-config watermark-config weight-transfer-config"
    ),
    "engine": (
        "aggregate-engine-logging fail-on-environ-validation gdn-prefill-backend kda-decode-backend "
        "kda-prefill-backend"
    ),
    "older versions": (
        "cpu-kvcache-space disable-async-output-proc disable-mm-preprocessor-cache enable-prompt-adapter "
        "enable-reasoning engine-use-ray guided-decoding-backend image-input-type long-lora-scaling-factors "
        "lora-extra-vocab-size max-context-len-to-capture max-long-partial-prefills max-num-partial-prefills "
        "max-prompt-adapter-token max-prompt-adapters max-seq-len-to-capture mm-cache-preprocessor "
        "multi-step-stream-outputs ngram-prompt-lookup-max ngram-prompt-lookup-min num-lookahead-slots "
        "num-scheduler-steps num-speculative-tokens override-neuron-config override-pooler-config preemption-mode "
        "prompt-adapters qlora-adapter-name-or-path ray-workers rope-scaling rope-theta scheduler-delay-factor "
        "speculative-draft-tensor-parallel-size speculative-model task tokenizer-pool-size tokenizer-pool-type "
        "use-v2-block-manager worker-use-ray"
    ),
}

_SHORT = {
    "O": "optimization-level",
    "ac": "attention-config",
    "asc": "api-server-count",
    "cc": "compilation-config",
    "dc": "diffusion-config",
    "dcp": "decode-context-parallel-size",
    "dpa": "data-parallel-address",
    "dpb": "data-parallel-backend",
    "dpe": "data-parallel-external-lb",
    "dph": "data-parallel-hybrid-lb",
    "dpl": "data-parallel-size-local",
    "dpm": "data-parallel-multi-port-external-lb",
    "dpn": "data-parallel-rank",
    "dpp": "data-parallel-rpc-port",
    "dpr": "data-parallel-start-rank",
    "ep": "enable-expert-parallel",
    "n": "nnodes",
    "pcp": "prefill-context-parallel-size",
    "r": "node-rank",
    "sc": "speculative-config",
}
"""One-dash spellings."""

_AREA_OF = {name: area for area, names in _AREAS.items() for name in names.split()}


def area_of(name: str) -> str | None:
    """What a flag is about that Quire knows but does not serve; None for any other name.

    Dashes and underscores are alike; ``no-`` before a name and a dotted key after it are looked through.
    """
    plain = name.lstrip("-").replace("_", "-").split(".")[0]
    plain = _SHORT.get(plain, plain)
    return _AREA_OF.get(plain) or _AREA_OF.get(plain.removeprefix("no-"))
