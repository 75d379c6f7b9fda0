"""Requests on their way through the engine: events in, pieces of text out, exactly one end for each.

Not here: prompts (prompts.py), the shapes of answers (routes/), text and stop strings (text/stream.py).
Door: Generation, Pieces, admit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

from quire.config.keys import ApiKey
from quire.core.events import Delta, Scheduled
from quire.core.ids import RequestId
from quire.core.outputs import PositionLogprobs
from quire.core.params import SamplingParams
from quire.engine.client import Event
from quire.engine.metrics import Ended
from quire.errors import QuireError, RequestError, SequenceFailed
from quire.server.access import new_id
from quire.server.faults import printable
from quire.server.front import Service
from quire.server.prompts import Prompt
from quire.server.schema.sampling import MAX_STOPS
from quire.server.schema.usage import PromptTokensDetails, Usage
from quire.text.stream import Piece, RequestStream
from quire.text.validate import Admitted

logger = logging.getLogger(__name__)


class Generation:
    """One admitted prompt with its samples, from ``start`` to ``close``; what it counts grows meanwhile."""

    def __init__(self, service: Service, admitted: Admitted, prompt: Prompt, key: ApiKey) -> None:
        self.request = admitted.request
        self.prompt = prompt
        self.ended: Ended | None = None
        """What became of it; known once it was closed."""
        self.service = service
        self.key = key
        self._stream = RequestStream(admitted, prompt.text, service.front.tokenizer)
        self._reasons: dict[int, str] = {}
        self._tell: Callable[[Piece | Exception], None] = _nobody
        self._is_open = False

    @property
    def is_finished(self) -> bool:
        """Whether all samples have ended."""
        return self._stream.finished

    @property
    def prompt_logprobs(self) -> list[PositionLogprobs | None] | None:
        """Logprobs of the prompt's tokens, the first None; known once a piece was told, None when not asked."""
        return self._stream.prompt_logprobs

    @property
    def num_generated(self) -> int:
        """Tokens of all samples so far."""
        return self._stream.num_generated_tokens

    @property
    def num_cached_tokens(self) -> int:
        """Prompt tokens that the prefix cache had."""
        return self._stream.num_cached_tokens

    def start(self, tell: Callable[[Piece | Exception], None]) -> None:
        """Have it computed. ``tell`` is called with every piece until all samples have ended, or with what failed.

        Raises: EngineDead.
        """
        front = self.service.front
        self._is_open = True
        self._tell = tell
        self.service.num_in_flight += 1
        front.metrics.arrived(self.request)
        front.admission.enter(self.request)
        self.service.quotas.enter(self.key, len(self.request.prompt_ids))
        front.client.submit(self.request, self._hear)

    def close(self) -> None:
        """Cancel what has not ended, and tell nothing more; nothing happens when it is not open."""
        if self._is_open:
            self._is_open = False
            self._tell = _nobody
            front = self.service.front
            front.client.withdraw(self.request.id)
            front.admission.leave(self.request.id)
            self.service.quotas.leave(self.key, self.num_generated)
            self.service.num_in_flight -= 1
            self.ended = front.metrics.finished(self.request.id, self._reasons)

    def _hear(self, event: Event | QuireError) -> None:
        """What fails here ends this request, never the others whose events came in the same message."""
        try:
            if isinstance(event, Delta):
                if (piece := self._feed(event)) is not None:
                    self._tell(piece)
            elif isinstance(event, Scheduled):
                self._stream.scheduled(event)
            else:
                self._tell(event)
        except Exception as error:
            self._tell(error)

    def _feed(self, delta: Delta) -> Piece | None:
        if delta.finish == "error":
            self._reasons[delta.index] = "error"
            raise SequenceFailed(f"The engine failed this request: {delta.error or 'no reason given'}.")
        piece = self._stream.feed(delta)
        if piece is not None and piece.finish_reason is not None:
            self._reasons[piece.index] = piece.finish_reason
            if piece.stopped_by_text:
                self.service.front.client.cancel(self.request.id, piece.index)
        return piece


def _nobody(_: Piece | Exception) -> None:
    """Who is told before the start and after the end."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What all prompts of one HTTP request share. ``names``: what the dialect calls fields of the validator."""

    key: ApiKey
    params: SamplingParams
    priority: int
    timeout_s: float | None
    cache_salt: str
    clamps_max_tokens: bool
    prompt_param: str
    names: dict[str, str]


async def admit(service: Service, prompts: Sequence[Prompt], wish: Wish) -> list[Generation]:
    """Check every prompt before any starts.

    Raises: what the validator raises, with the dialect's own field names.
    """
    num_ids = sum(len(prompt.ids) for prompt in prompts)
    if service.config.logs_requests:
        _log(service, prompts, wish)
    return await service.off_loop(
        num_ids, lambda: [Generation(service, _admit(service, one, wish), one, wish.key) for one in prompts]
    )


def _check_room(generations: Sequence[Generation]) -> None:
    service, key = generations[0].service, generations[0].key
    service.quotas.check(key, len(generations))
    service.front.admission.check([generation.request for generation in generations])


def _log(service: Service, prompts: Sequence[Prompt], wish: Wish) -> None:
    """What was asked, as the operator wants it: parameters at level info, the prompts' own text only at debug."""
    num_ids = sum(len(prompt.ids) for prompt in prompts)
    logger.info("Asked: %d prompts of %d tokens, %s", len(prompts), num_ids, printable(str(wish.params), 2000))
    if logger.isEnabledFor(logging.DEBUG):
        limit = service.config.max_log_len
        for prompt in prompts:
            shown = str(list(prompt.ids)) if prompt.text is None else prompt.text
            logger.debug("Prompt: %s", printable(shown, len(shown) if limit is None else limit))


def _admit(service: Service, prompt: Prompt, wish: Wish) -> Admitted:
    try:
        return service.front.validator.admit(
            RequestId(new_id()),
            prompt.ids,
            wish.params,
            priority=wish.priority,
            cache_salt=wish.cache_salt,
            clamps_max_tokens=wish.clamps_max_tokens,
            max_stop_strings=MAX_STOPS,
            prompt_param=wish.prompt_param,
            timeout_s=wish.timeout_s,
            tenant=wish.key.name,
            weight=wish.key.weight,
            shares_prefixes=wish.key.shares_prefixes,
        )
    except RequestError as error:
        if error.param is not None:
            error.param = wish.names.get(error.param, error.param)
        raise


class Pieces:
    """The pieces of some generations, in batches: each has what came since the last one, and each piece the place of
    its generation. All are started on entering and closed on leaving.

    The first failure ends the iteration, after the pieces that came before it.
    """

    def __init__(self, generations: Sequence[Generation]) -> None:
        self._generations = generations
        self._batch: list[tuple[int, Piece]] = []
        self._failure: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        """Start them all, or none.

        Raises: RateLimited when the key has used what it may, Overloaded when they would wait too long, EngineDead.
        """
        _check_room(self._generations)  # Between this and the starts nobody else comes in.
        try:
            for place, generation in enumerate(self._generations):
                generation.start(partial(self._take, place))
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[tuple[int, Piece]]:
        while not self._batch:
            if self._failure is not None:
                raise self._failure
            if all(generation.is_finished for generation in self._generations):
                raise StopAsyncIteration
            self._waiting = self._loop.create_future()
            await self._waiting
        batch, self._batch = self._batch, []
        return batch

    def _take(self, place: int, told: Piece | Exception) -> None:
        if self._failure is not None:
            return
        if isinstance(told, Piece):
            self._batch.append((place, told))
        else:
            self._failure = told
        waiting = self._waiting
        if waiting is not None:
            self._waiting = None
            if not waiting.done():
                waiting.set_result(None)

    def _close(self) -> None:
        for generation in self._generations:
            generation.close()


def usage_of(service: Service, generations: Sequence[Generation], num_generated: int | None = None) -> Usage:
    """Tokens so far, over all prompts. ``num_generated`` replaces the count where an answer shows fewer."""
    num_prompt = sum(len(generation.request.prompt_ids) for generation in generations)
    if num_generated is None:
        num_generated = sum(generation.num_generated for generation in generations)
    details = None
    if service.config.gives_prompt_tokens_details:
        details = PromptTokensDetails(sum(generation.num_cached_tokens for generation in generations))
    return Usage(num_prompt, num_prompt + num_generated, num_generated, details)
