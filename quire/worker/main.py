"""How a worker comes to be: threads, card, model, KV, runner, first step.

The engine's executors reach this module by its name alone.

Not here: what is loaded (load.py), what a step is (runner.py).
Door: open_worker.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from quire import plugins
from quire.config.card import read_card
from quire.config.decided import WorkerConfig
from quire.core.events import Ready
from quire.layers.batch import AttentionBackend
from quire.ops.op import bind_gemm, bind_rows
from quire.sampling.sampler import Sampler
from quire.worker.blocks import KVBlocks
from quire.worker.inputs import InputBuilder
from quire.worker.launch import launcher_for
from quire.worker.load import load_model
from quire.worker.pack import pack_weights
from quire.worker.quantise import num_parameters, weight_bytes
from quire.worker.rows import RowTable
from quire.worker.runner import Runner
from quire.worker.threads import settle_threads
from quire.worker.warmup import warm_up
from quire.worker.worker import Worker


def open_worker(config: WorkerConfig) -> Worker:
    """Load the model and make it ready for steps. Settles the threads that this one computes with (threads.py).

    Raises: CheckpointError, UnsupportedModel, ConfigError or DoesNotFit, one line each.
    """
    started_s = time.monotonic()
    settle_threads(config)
    with torch.inference_mode():
        card = read_card(Path(config.model_path))
        backend: AttentionBackend = plugins.load("attention", config.attention_backend).Backend()
        gemm = bind_gemm(config.linear_backend)
        model = load_model(card, config)
        # Counted before packing, which pads.
        count = num_parameters(model)
        pack_weights(model, gemm)
        kernels = bind_rows(config.linear_backend, getattr(torch, config.dtype))
        if kernels is not None:
            model.bind(kernels)
        blocks = KVBlocks(config, card)
        launcher = launcher_for(model, config, card)
        sampler = Sampler(config, launcher.head)
        rows = RowTable(config, sampler, blocks)
        runner = Runner(rows, InputBuilder(config, blocks.layers, backend), launcher, sampler)
        warm_up(runner, config)
    report = Ready(
        num_parameters=count,
        weight_bytes=weight_bytes(model),
        kv_bytes=blocks.num_bytes,
        load_time_s=time.monotonic() - started_s,
    )
    return Worker(runner, report)
