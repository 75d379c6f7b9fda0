"""What the routes stand on: the wired parts of this process, and the little that a server adds to them.

Not here: who wires them (quire.assemble), HTTP.
Door: Front (given), Service (made from it by app.py).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from quire.config.decided import ServerConfig, TextConfig
from quire.config.keys import ApiKey
from quire.engine.admission import Admission
from quire.engine.client import EngineClient
from quire.engine.metrics import Metrics
from quire.errors import ConfigError, NotSupported, UnknownModel
from quire.server.faults import printable
from quire.server.quotas import Quotas
from quire.text.prompt import PromptEncoder
from quire.text.template import ChatTemplate
from quire.text.tokenizer import Tokenizer
from quire.text.validate import Validator
from quire.version import __version__

INLINE_CHARS = 4096
"""Texts up to this length are rendered and tokenised on the event loop: cheaper than a change of threads, and below a
millisecond.
"""
_NUM_TEXT_THREADS = 2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Front:
    """The parts of the front process. ``tokenizer`` and ``template`` are None where the checkpoint has none."""

    client: EngineClient
    tokenizer: Tokenizer | None
    template: ChatTemplate | None
    validator: Validator
    text: TextConfig
    metrics: Metrics
    admission: Admission


class Service:
    """Front and configuration together, with the state that lives as long as the server.

    Invariant: ``num_in_flight`` counts the generations that are open (see generation.py, which changes it).
    """

    def __init__(self, config: ServerConfig, front: Front) -> None:
        self.config = config
        self.front = front
        self.created_s = int(time.time())
        self.fingerprint = _fingerprint(config, front.text)
        self.template_variables = _json_object(config.default_chat_template_kwargs)
        self.num_in_flight = 0
        self.quotas = Quotas()
        tokenizer = front.tokenizer
        self._encoder = (
            None if tokenizer is None else PromptEncoder(tokenizer, front.template, front.text.max_model_len)
        )
        self._threads = ThreadPoolExecutor(_NUM_TEXT_THREADS, thread_name_prefix="text")

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises NotSupported when the server runs without a tokenizer."""
        if self.front.tokenizer is None:
            raise NotSupported("This server runs without a tokenizer and takes token ids only.", param="prompt")
        return self.front.tokenizer

    @property
    def encoder(self) -> PromptEncoder:
        """Raises NotSupported when the server runs without a tokenizer."""
        if self._encoder is None:
            raise NotSupported("This server runs without a tokenizer and takes token ids only.", param="prompt")
        return self._encoder

    @property
    def template(self) -> ChatTemplate:
        """Raises NotSupported when the model has no chat template."""
        if self.front.template is None:
            raise NotSupported(
                "The model has no chat template. Give one with --chat-template, or use /v1/completions.",
                param="messages",
            )
        return self.front.template

    def models_for(self, key: ApiKey) -> tuple[str, ...]:
        """The names that a key may use."""
        return tuple(name for name in self.config.model_names if key.models is None or name in key.models)

    def check_model(self, name: str | None, key: ApiKey) -> None:
        """Raise UnknownModel unless ``name`` is served to the key; None means whichever it may use."""
        if name is not None and name not in self.models_for(key):
            raise UnknownModel(f"The model '{printable(name)}' is not served here.", param="model")

    async def off_loop(self, num_chars: int, work: Callable[[], T]) -> T:
        """Do work on a text without holding up the event loop: in a thread when the text is long."""
        if num_chars <= INLINE_CHARS:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _json_object(text: str) -> dict[str, object]:
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ConfigError(f"--default-chat-template-kwargs must be a JSON object: {error}.") from None


def _fingerprint(config: ServerConfig, text: TextConfig) -> str:
    """Equal for servers that answer alike: version, model and the facts that shape its text."""
    facts = msgspec.json.encode((config.model_root, config.max_model_len, text))
    return f"quire-{__version__}-{hashlib.sha256(facts).hexdigest()[:8]}"
