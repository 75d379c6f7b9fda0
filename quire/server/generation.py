"""Requests on their way through the engine: events in, pieces of text out, exactly one end for each.

Not here: prompts (prompts.py), the shapes of answers (routes/), text and stop strings (text/stream.py).
Door: Generation, admit, merged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from quire.core.events import Delta, Scheduled
from quire.core.ids import RequestId
from quire.core.outputs import PositionLogprobs
from quire.core.params import SamplingParams
from quire.engine.metrics import Ended
from quire.errors import RequestError, SequenceFailed
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
    """One admitted prompt with its samples; what it counts grows while ``pieces`` is read."""

    def __init__(self, service: Service, admitted: Admitted, prompt: Prompt) -> None:
        self.request = admitted.request
        self.prompt = prompt
        self._service = service
        self._stream = RequestStream(admitted, prompt.text, service.front.tokenizer)
        self._reasons: dict[int, str] = {}
        self.ended: Ended | None = None
        """What became of it; known once ``pieces`` has ended."""

    @property
    def prompt_logprobs(self) -> list[PositionLogprobs | None] | None:
        """Logprobs of the prompt's tokens, the first None; known once a piece was read, None when not asked."""
        return self._stream.prompt_logprobs

    @property
    def num_generated(self) -> int:
        """Tokens of all samples so far."""
        return self._stream.num_generated_tokens

    @property
    def num_cached_tokens(self) -> int:
        """Prompt tokens that the prefix cache had."""
        return self._stream.num_cached_tokens

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """What the samples say, until all have ended. Closing cancels the rest.

        Raises: SequenceFailed, EngineDead.
        """
        front = self._service.front
        front.metrics.arrived(self.request)
        try:
            with self._service.in_flight():
                async with aclosing(front.client.submit(self.request)) as events:
                    async for event in events:
                        if isinstance(event, Scheduled):
                            self._stream.scheduled(event)
                        elif (piece := self._feed(event)) is not None:
                            yield piece
                        if self._stream.finished:
                            break
        finally:
            self.ended = front.metrics.finished(self.request.id, self._reasons)

    def _feed(self, delta: Delta) -> Piece | None:
        if delta.finish == "error":
            self._reasons[delta.index] = "error"
            raise SequenceFailed(f"The engine failed this request: {delta.error or 'no reason given'}.")
        piece = self._stream.feed(delta)
        if piece is None:
            return None
        if piece.finish_reason is not None:
            self._reasons[piece.index] = piece.finish_reason
        if piece.stopped_by_text:
            self._service.front.client.cancel(self.request.id, piece.index)
        return piece


@dataclass(frozen=True, slots=True)
class Wish:
    """What all prompts of one HTTP request share. ``names``: what the dialect calls fields of the validator."""

    params: SamplingParams
    priority: int
    cache_salt: str
    clamps_max_tokens: bool
    prompt_param: str
    names: dict[str, str]


async def admit(service: Service, prompts: Sequence[Prompt], wish: Wish) -> list[Generation]:
    """Check every prompt before any starts. Raises what the validator raises, with the dialect's own field names."""
    num_ids = sum(len(prompt.ids) for prompt in prompts)
    if service.config.logs_requests:
        _log(service, prompts, wish)
    return await service.off_loop(
        num_ids, lambda: [Generation(service, _admit(service, one, wish), one) for one in prompts]
    )


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
        )
    except RequestError as error:
        if error.param is not None:
            error.param = wish.names.get(error.param, error.param)
        raise


async def merged(generations: Sequence[Generation]) -> AsyncGenerator[tuple[int, Piece], None]:
    """Pieces of all generations as they come, each with its generation's place.

    The first failure ends them all and is raised; closing ends them all.
    """
    if len(generations) == 1:
        async with aclosing(generations[0].pieces()) as pieces:
            async for piece in pieces:
                yield 0, piece
        return
    queue: asyncio.Queue[tuple[int, Piece] | Exception | None] = asyncio.Queue()

    async def pump(place: int, generation: Generation) -> None:
        try:
            async with aclosing(generation.pieces()) as pieces:
                async for piece in pieces:
                    queue.put_nowait((place, piece))
            queue.put_nowait(None)
        except Exception as error:
            queue.put_nowait(error)

    tasks = [asyncio.ensure_future(pump(place, generation)) for place, generation in enumerate(generations)]
    num_left = len(tasks)
    try:
        while num_left:
            found = await queue.get()
            if isinstance(found, Exception):
                raise found
            if found is None:
                num_left -= 1
            else:
                yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def usage_of(service: Service, generations: Sequence[Generation], num_generated: int | None = None) -> Usage:
    """Tokens so far, over all prompts. ``num_generated`` replaces the count where an answer shows fewer."""
    num_prompt = sum(len(generation.request.prompt_ids) for generation in generations)
    if num_generated is None:
        num_generated = sum(generation.num_generated for generation in generations)
    details = None
    if service.config.gives_prompt_tokens_details:
        details = PromptTokensDetails(sum(generation.num_cached_tokens for generation in generations))
    return Usage(num_prompt, num_prompt + num_generated, num_generated, details)
