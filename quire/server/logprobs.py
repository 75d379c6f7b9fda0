"""Logprobs in the shapes of the two dialects.

Not here: where they come from (text/stream.py gives them by position).
Door: TokenNames, chat_logprobs, CompletionLogprobsBuilder, prompt_logprobs.
"""

from __future__ import annotations

from collections.abc import Sequence

from quire.core.outputs import Logprob, PositionLogprobs
from quire.server.schema.chat import ChatLogprobs, TokenLogprob, TopLogprob
from quire.server.schema.completion import CompletionLogprobs
from quire.server.schema.usage import PromptLogprob, PromptLogprobs
from quire.text.tokenizer import Tokenizer

LOWEST = -9999.0
"""JSON has no infinity; clients expect this in its place."""


def _bounded(logprob: float) -> float:
    return logprob if logprob >= LOWEST else LOWEST


class TokenNames:
    """How tokens are called in an answer: by their text, or as ``token_id:17`` when asked so."""

    def __init__(self, tokenizer: Tokenizer | None, *, by_id: bool) -> None:
        self._tokenizer = tokenizer
        self._by_id = by_id or tokenizer is None

    def name(self, token_id: int, logprob: Logprob | None) -> str:
        """The token's name; ``logprob`` may know its text already."""
        if self._by_id or self._tokenizer is None:
            return f"token_id:{token_id}"
        if logprob is not None and logprob.decoded_token is not None:
            return logprob.decoded_token
        return self._tokenizer.decode([token_id], skip_special_tokens=False)

    def bytes_of(self, token_id: int) -> list[int] | None:
        """The token's exact bytes, also where they are only a part of a character."""
        return None if self._tokenizer is None else list(self._tokenizer.token_bytes(token_id))


def _most_likely(position: PositionLogprobs, limit: int | None) -> list[tuple[int, Logprob]]:
    ranked = sorted(position.items(), key=lambda item: (item[1].rank is None, item[1].rank or 0, -item[1].logprob))
    return ranked if limit is None else ranked[:limit]


def chat_logprobs(
    token_ids: Sequence[int], positions: Sequence[PositionLogprobs], names: TokenNames, limit: int | None
) -> ChatLogprobs:
    """One entry a token, each with at most ``limit`` candidates (None: all there are)."""
    content = []
    for token_id, position in zip(token_ids, positions, strict=False):
        drawn = position.get(token_id)
        name = names.name(token_id, drawn)
        tops = [
            TopLogprob(names.name(other, one), _bounded(one.logprob), names.bytes_of(other))
            for other, one in _most_likely(position, limit)
        ]
        logprob = LOWEST if drawn is None else _bounded(drawn.logprob)
        content.append(TokenLogprob(name, logprob, names.bytes_of(token_id), tops))
    return ChatLogprobs(content)


class CompletionLogprobsBuilder:
    """Logprobs of one choice, part by part: offsets go on where the last part ended."""

    def __init__(self, names: TokenNames, limit: int | None) -> None:
        self._names = names
        self._limit = limit
        self._offset = 0

    def part(self, token_ids: Sequence[int], positions: Sequence[PositionLogprobs | None]) -> CompletionLogprobs:
        """The next tokens. A position None (the first of a prompt) has no logprob."""
        part = CompletionLogprobs([], [], [], [])
        for token_id, position in zip(token_ids, positions, strict=False):
            drawn = None if position is None else position.get(token_id)
            name = self._names.name(token_id, drawn)
            part.tokens.append(name)
            part.text_offset.append(self._offset)
            self._offset += len(name)
            if position is None:
                part.token_logprobs.append(None)
                part.top_logprobs.append(None)
            else:
                part.token_logprobs.append(LOWEST if drawn is None else _bounded(drawn.logprob))
                part.top_logprobs.append(self._tops(token_id, position))
        return part

    def _tops(self, token_id: int, position: PositionLogprobs) -> dict[str, float]:
        """The drawn token is always among them, so there may be one more than asked."""
        kept = dict(_most_likely(position, self._limit))
        if token_id in position:
            kept.setdefault(token_id, position[token_id])
        return {self._names.name(other, one): _bounded(one.logprob) for other, one in kept.items()}


def joined(first: CompletionLogprobs | None, second: CompletionLogprobs | None) -> CompletionLogprobs | None:
    """Two parts of one choice as one."""
    if first is None or second is None:
        return first if second is None else second
    return CompletionLogprobs(
        first.text_offset + second.text_offset,
        first.token_logprobs + second.token_logprobs,
        first.tokens + second.tokens,
        first.top_logprobs + second.top_logprobs,
    )


def prompt_logprobs(positions: Sequence[PositionLogprobs | None] | None, names: TokenNames) -> PromptLogprobs | None:
    """Logprobs of a prompt by position, each candidate under its token id."""
    if positions is None:
        return None
    return [
        None
        if position is None
        else {
            str(token_id): PromptLogprob(_bounded(one.logprob), one.rank, names.name(token_id, one))
            for token_id, one in position.items()
        }
        for position in positions
    ]
