"""The engine's deltas of one request become text: detokenized, cut at stop strings, with logprobs as people read
them.

Tokens are taken one by one, so that the tokens of an output end with the one that completed a stop string, however
many came at once. A token that ended the sequence by itself (an end of sequence, a stop token id) counts among the
tokens and is not in the text, unless stops are included.

Not here: how a dialect writes pieces (server/), which deltas come (engine/).
Door: RequestStream, Piece.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from quire.core.events import Delta, FinishReason, Scheduled
from quire.core.outputs import CompletionOutput, Logprob, PositionLogprobs, RequestMetrics, RequestOutput
from quire.core.params import OutputKind
from quire.core.step import TokenLogprobs
from quire.text.detokenizer import Detokenizer
from quire.text.stopper import Stopper
from quire.text.tokenizer import Tokenizer
from quire.text.validate import Admitted, TextOptions


class Piece(Struct, frozen=True, gc=False):
    """What is new of one sample. ``text`` may be empty while something is held back; exactly one piece of a sample
    has a ``finish_reason``.

    ``stopped_by_text``: a stop string ended the sample and the engine does not know; it must be told to cancel
    (request, index). ``error`` says why when ``finish_reason`` is ``error``.
    """

    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: list[PositionLogprobs] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    stopped_by_text: bool = False
    error: str = ""


class RequestStream:
    """All samples of one request, from admission to the end.

    Deltas of a sample that has ended (they were under way when it was cancelled) are ignored.
    """

    def __init__(
        self, admitted: Admitted, prompt_text: str | None, tokenizer: Tokenizer | None, *, arrival_time: float = 0.0
    ) -> None:
        self.request = admitted.request
        self.prompt_text = prompt_text
        self.prompt_logprobs: list[PositionLogprobs | None] | None = (
            [None] if admitted.options.wants_prompt_logprobs else None
        )
        self.num_cached_tokens = 0
        self.metrics = RequestMetrics(arrival_time=arrival_time)
        self._options = admitted.options
        self._tokenizer = tokenizer
        self._samples = [
            _Sample(index, admitted.request.prompt_ids, admitted.options, tokenizer)
            for index in range(admitted.request.n)
        ]
        self._num_open = len(self._samples)

    @property
    def finished(self) -> bool:
        """Whether every sample has ended."""
        return self._num_open == 0

    @property
    def num_generated_tokens(self) -> int:
        """Tokens of all samples so far, for usage."""
        return self.metrics.num_generation_tokens

    def scheduled(self, event: Scheduled) -> None:
        """Notes when the request was scheduled first, and what the prefix cache had of its prompt."""
        if event.is_first and self.metrics.scheduled_ts == 0.0:
            self.metrics.scheduled_ts = event.at_s
            self.num_cached_tokens = min(event.cached_tokens, len(self.request.prompt_ids))
        elif not event.is_first:
            self.metrics.num_preemptions += 1

    def feed(self, delta: Delta, at_s: float = 0.0) -> Piece | None:
        """Takes one delta; ``at_s`` is when its step ended. None when it brings nothing."""
        sample = self._samples[delta.index]
        if delta.prompt_logprobs and self.prompt_logprobs is not None:
            self.prompt_logprobs += [_position(entry, self._tokenizer) for entry in delta.prompt_logprobs]
        if sample.is_finished:
            return None
        piece = sample.feed(delta)
        if piece.token_ids:
            if not self.metrics.num_generation_tokens:
                self.metrics.first_token_ts = at_s
                self.metrics.first_token_latency = at_s - self.metrics.arrival_time
            self.metrics.num_generation_tokens += len(piece.token_ids)
            self.metrics.last_token_ts = at_s
        if piece.finish_reason is not None:
            self._num_open -= 1
        return piece if piece.token_ids or piece.text or piece.finish_reason is not None else None

    def output(self) -> RequestOutput:
        """All samples so far; with output kind DELTA, what is new since the last call."""
        since_last = self._options.output_kind == OutputKind.DELTA
        return RequestOutput(
            request_id=self.request.id,
            prompt=self.prompt_text,
            prompt_token_ids=list(self.request.prompt_ids),
            outputs=[sample.output(since_last) for sample in self._samples],
            finished=self.finished,
            prompt_logprobs=None if self.prompt_logprobs is None else list(self.prompt_logprobs),
            num_cached_tokens=self.num_cached_tokens,
            metrics=self.metrics,
        )


class _Sample:
    """One sample's tokens and text. ``_told_*`` count what an output of kind DELTA has given already."""

    def __init__(
        self, index: int, prompt_ids: Sequence[int], options: TextOptions, tokenizer: Tokenizer | None
    ) -> None:
        self._index = index
        self._options = options
        self._tokenizer = tokenizer
        self._detokenizer = (
            Detokenizer(
                tokenizer,
                prompt_ids=prompt_ids,
                skip_special_tokens=options.skip_special_tokens,
                spaces_between_special_tokens=options.spaces_between_special_tokens,
            )
            if tokenizer is not None and options.detokenize
            else None
        )
        self._stopper = Stopper(options.stop, options.include_stop)
        # Then a token is text and nothing else: most tokens of most requests.
        self._is_plain = self._detokenizer is not None and not options.stop and not options.wants_logprobs
        self._text: list[str] = []
        self._token_ids: list[int] = []
        self._logprobs: list[PositionLogprobs] = []
        self._cumulative = 0.0
        self._finish_reason: FinishReason | None = None
        self._stop_reason: int | str | None = None
        self._told_text = 0
        self._told_tokens = 0

    @property
    def is_finished(self) -> bool:
        return self._finish_reason is not None

    def feed(self, delta: Delta) -> Piece:
        """Takes one delta of this sample, which has not ended."""
        if self._is_plain and delta.finish is None and self._detokenizer is not None:
            text = self._detokenizer.push(delta.token_ids)
            self._token_ids += delta.token_ids
            if text:
                self._text.append(text)
            return Piece(self._index, text, delta.token_ids)
        visible, num_kept, matched = self._visible(delta)
        ids = delta.token_ids[:num_kept]
        entries = delta.logprobs[:num_kept] if self._options.wants_logprobs else ()
        if matched is not None:
            self._finish_reason, self._stop_reason = "stop", matched
        elif delta.finish is not None:
            self._finish_reason, self._stop_reason = delta.finish, delta.stop_reason
        logprobs = [_position(entry, self._tokenizer) for entry in entries]
        self._cumulative += sum(entry.logprobs[0] for entry in entries)
        self._token_ids += ids
        self._logprobs += logprobs
        if visible:
            self._text.append(visible)
        return Piece(
            index=self._index,
            text=visible,
            token_ids=ids,
            logprobs=logprobs if self._options.wants_logprobs else None,
            finish_reason=self._finish_reason,
            stop_reason=self._stop_reason,
            stopped_by_text=matched is not None and delta.finish is None,
            error=delta.error if self._finish_reason == "error" else "",
        )

    def _visible(self, delta: Delta) -> tuple[str, int, str | None]:
        """New visible text, how many of the delta's tokens are kept, and the stop string that ended it, if one did."""
        if self._detokenizer is None:
            return "", len(delta.token_ids), None
        parts: list[str] = []
        ends_itself = delta.finish == "stop" and not self._options.include_stop
        for at, id in enumerate(delta.token_ids):
            if ends_itself and at == len(delta.token_ids) - 1:
                break
            may_stop = len(self._token_ids) + at + 1 > self._options.min_tokens
            visible, matched = self._stopper.push(self._detokenizer.push((id,)), may_stop=may_stop)
            parts.append(visible)
            if matched is not None:
                return "".join(parts), at + 1, matched
        if delta.finish is not None:
            may_stop = len(self._token_ids) + len(delta.token_ids) > self._options.min_tokens
            visible, matched = self._stopper.push(self._detokenizer.finish(), may_stop=may_stop)
            parts.append(visible)
            if matched is not None:
                return "".join(parts), len(delta.token_ids), matched
            parts.append(self._stopper.finish())
        return "".join(parts), len(delta.token_ids), None

    def output(self, since_last: bool) -> CompletionOutput:
        """This sample so far, or what is new since the last such call."""
        first_text, first_token = (self._told_text, self._told_tokens) if since_last else (0, 0)
        if since_last:
            self._told_text, self._told_tokens = len(self._text), len(self._token_ids)
        has_logprobs = self._options.wants_logprobs
        return CompletionOutput(
            index=self._index,
            text="".join(self._text[first_text:]),
            token_ids=self._token_ids[first_token:],
            cumulative_logprob=self._cumulative if has_logprobs else None,
            logprobs=self._logprobs[first_token:] if has_logprobs else None,
            finish_reason=self._finish_reason,
            stop_reason=self._stop_reason,
        )


def _position(entry: TokenLogprobs, tokenizer: Tokenizer | None) -> PositionLogprobs:
    """The token that stands there first, then the others; an id that occurs twice counts once."""
    position: PositionLogprobs = {}
    for id, logprob, rank in zip(entry.ids, entry.logprobs, entry.ranks, strict=True):
        if id not in position:
            position[id] = Logprob(logprob, rank, tokenizer.token_text(id) if tokenizer is not None else None)
    return position
