"""The composition root: a decided configuration in, a wired engine or a running server out. Only wiring.

Not here: deciding (config/resolve.py), the parts themselves.
Door: offline, serve.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire import plugins
from quire.config.asked import engine_options
from quire.config.decided import EngineConfig, ServerConfig, TextConfig
from quire.config.resolve import resolve_engine
from quire.config.root import Decided
from quire.engine.executor import Executor
from quire.engine.loop import EngineLoop
from quire.engine.supervisor import Supervisor
from quire.errors import ConfigError
from quire.scheduler.scheduler import Scheduler
from quire.text.prompt import PromptEncoder, load_chat_template
from quire.text.template import ChatTemplate
from quire.text.tokenizer import Tokenizer
from quire.text.validate import Validator, counted_seeds

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from quire.engine.client import EngineClient

logger = logging.getLogger(__name__)

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True, slots=True)
class TextParts:
    """What stands between a user's text and the engine's ids. Without a tokenizer only ids go in and out."""

    config: TextConfig
    tokenizer: Tokenizer | None
    template: ChatTemplate | None
    encoder: PromptEncoder | None
    validator: Validator


@dataclass(frozen=True, slots=True)
class Offline:
    """An engine in this process, and the text around it."""

    text: TextParts
    loop: EngineLoop
    executor: Executor


def text_parts(config: TextConfig, next_seed: Callable[[], int] | None = None) -> TextParts:
    """Load the tokenizer and the chat template. ``next_seed`` gives seeds to requests without one; None: unforeseeable.

    Raises: CheckpointError when the folder has no tokenizer that can be read.
    """
    tokenizer = None if config.skip_tokenizer_init else Tokenizer.load(config.tokenizer_path)
    template = load_chat_template(config, tokenizer)
    encoder = None if tokenizer is None else PromptEncoder(tokenizer, template, config.max_model_len)
    return TextParts(config, tokenizer, template, encoder, Validator(config, tokenizer, next_seed))


def engine_config(decided: Decided) -> EngineConfig:
    """The slices that the engine's process builds."""
    log_level = decided.server.log_level if decided.server is not None else "warning"
    return EngineConfig(decided.scheduler, decided.kv, decided.worker, log_level=log_level)


def offline(model: str, options: Mapping[str, object]) -> Offline:
    """Decide, load and wire everything in this process.

    Raises: ConfigError, DoesNotFit or CheckpointError, each with its remedy.
    """
    decided = resolve_engine(engine_options(model=model, **options), "llm")
    for notice in decided.notices:
        logger.warning("%s", notice)
    config = engine_config(decided)
    text = text_parts(decided.text, counted_seeds(decided.text.seed))
    executor: Executor = plugins.load("engine.executors", config.executor).Executor(config.worker)
    executor.start()
    return Offline(text, EngineLoop(Scheduler(config.scheduler, config.kv), executor), executor)


def serve(decided: Decided, listener: socket.socket) -> int:
    """Serve on a bound socket until told to stop; returns the process's exit code (see server/run.py).

    Raises: CheckpointError in the engine's words.
    """
    import uvloop

    config = decided.server
    if config is None:
        raise ConfigError("These options were decided for the library; a server needs the server's own.")
    logging.basicConfig(level=config.log_level.upper(), format=_LOG_FORMAT)
    return uvloop.run(_serve(decided, config, listener))


async def _serve(decided: Decided, config: ServerConfig, listener: socket.socket) -> int:
    client = Supervisor(engine_config(decided))
    try:
        ready, app = await asyncio.gather(client.start(), asyncio.to_thread(_front, decided, config, client))
        form = decided.worker.quantization or decided.worker.dtype
        logger.info("Loaded %s in %s in %.1f s.", decided.card.path, form, ready.load_time_s)
        from quire.server.run import run

        return await run(app, config, listener, client.stop)
    finally:
        await client.stop()


def _front(decided: Decided, config: ServerConfig, client: EngineClient) -> ASGIApp:
    """The app and all it stands on; made while the engine loads."""
    from quire.engine.admission import Admission, QueueLimits
    from quire.engine.metrics import Metrics
    from quire.server.app import create_app
    from quire.server.front import Front

    metrics = Metrics(config.model_names[0], max_model_len=config.max_model_len, kv=decided.kv)
    text = text_parts(decided.text)
    scheduler = decided.scheduler
    limits = QueueLimits(
        config.max_queued_rows,
        config.max_queued_tokens,
        config.max_queue_wait_s or None,
        scheduler.max_num_seqs,
        scheduler.max_num_batched_tokens,
    )
    admission = Admission(limits, metrics.rejected)
    front = Front(client, text.tokenizer, text.template, text.validator, text.config, metrics, admission)
    return create_app(config, front)
