"""The sampler: hidden states in, next tokens and logprobs out.

The order of the stages is decided here. Logprobs are of the raw distribution, before any stage.

A row that cannot be sampled fails alone: its logits are not finite, no token is left, a processor of its own is at
fault, or something raises (then the rows are sampled one by one, and only the culprit fails). What the model's head
raises is not contained here.

Not here: which rows draw (worker/inputs.py), one change of logits (stages/), chance (noise.py).
Door: Sampler, Head.
"""

# Shapes: K wanted tokens of the step, M model size, R rows that draw, V vocabulary, N positions of a prompt.

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import torch
from msgspec import Struct
from torch import Tensor

from quire.config.decided import WorkerConfig
from quire.core.ids import Row
from quire.core.request import Sampling
from quire.core.step import NewRow, RowResult, TokenLogprobs
from quire.ops.op import bind_greedy
from quire.sampling.chance import Chance, StagedChance
from quire.sampling.draw import Draw, PromptSpan, Want
from quire.sampling.logprobs import Logprobs, logprobs_of_lines
from quire.sampling.pieces import pieces
from quire.sampling.stage import Stage
from quire.sampling.stages import (
    allowed_tokens,
    bad_words,
    logit_bias,
    min_p,
    min_tokens,
    penalties,
    processors,
    temperature,
    top_k_top_p,
)

BEFORE_THE_PICK: tuple[Callable[[WorkerConfig], Stage], ...] = (
    allowed_tokens.Stage,
    bad_words.Stage,
    min_tokens.Stage,
    logit_bias.Stage,
    penalties.Stage,
    processors.Stage,
)
"""Stages that may change which token is the most likely one."""

AFTER_THE_PICK: tuple[Callable[[WorkerConfig], Stage], ...] = (temperature.Stage, min_p.Stage, top_k_top_p.Stage)
"""Stages of rows that are not greedy; none of them changes which token is the most likely one."""

Head = Callable[[Tensor], Tensor]
"""Hidden states [N, M] to float32 logits [N, V]."""

_MIN_PROMPT_ROWS = 16
_MAX_PROMPT_ROWS = 256

logger = logging.getLogger(__name__)


class _Drawn(Struct, gc=False):
    token_id: int
    logprobs: TokenLogprobs | None = None


class Sampler:
    """Samples a step's rows. Live state: the stages' columns, and the rows whose logits a stage before the pick may
    change: all others are picked from the raw logits, without a copy.
    """

    def __init__(self, config: WorkerConfig, head: Head) -> None:
        self._head = head
        self._before = tuple(stage(config) for stage in BEFORE_THE_PICK)
        self._chance = _bind_chance(config)
        self._greedy = bind_greedy(config.linear_backend)
        self._logprobs = _bind_logprobs(config)
        self._shaped: set[Row] = set()
        # The buffer of logits is reckoned as max_num_seqs rows; a prompt's logits must not need more, but single rows
        # would be slow.
        self._prompt_rows = min(_MAX_PROMPT_ROWS, max(_MIN_PROMPT_ROWS, config.max_num_seqs))

    def enter(self, new: NewRow) -> None:
        """A sequence takes a row: whatever the row's columns held before is replaced."""
        is_shaped = [stage.enter(new) for stage in self._before]
        if any(is_shaped):
            self._shaped.add(new.row)
        else:
            self._shaped.discard(new.row)
        self._chance.enter(new)

    def leave(self, row: Row) -> None:
        """Forget a row."""
        self._shaped.discard(row)
        self._chance.leave(row)
        for stage in self._before:
            stage.leave(row)

    def sample(self, hidden_KM: Tensor, wants: Sequence[Want]) -> tuple[RowResult, ...]:
        """One result for each want, in order. Changes nothing, so that it may be called again for the same step."""
        drawing = [want for want in wants if want.draw is not None]
        drawn: Iterator[_Drawn] = iter(())
        if drawing:
            hidden_RM = hidden_KM
            if len(drawing) < len(hidden_KM):  # Else each is a row's last, in order.
                hidden_RM = hidden_KM[torch.tensor([want.last for want in drawing], device=hidden_KM.device)]
            drawn = iter(self._draw_contained(self._head(hidden_RM), [want.draw for want in drawing if want.draw]))
        return tuple([self._result(hidden_KM, want, next(drawn) if want.draw else None) for want in wants])

    def _result(self, hidden_KM: Tensor, want: Want, drawn: _Drawn | None) -> RowResult:
        if want.draw is not None and want.draw.error:
            return RowResult(want.row, error=want.draw.error)
        prompt: tuple[TokenLogprobs, ...] = ()
        if want.prompt is not None:
            found = self._prompt_logprobs(hidden_KM, want.prompt)
            if isinstance(found, str):
                return RowResult(want.row, error=found)
            prompt = found
        if drawn is None:
            return RowResult(want.row, prompt_logprobs=prompt)
        return RowResult(want.row, (drawn.token_id,), (drawn.logprobs,) if drawn.logprobs else (), prompt)

    def _draw_contained(self, logits_RV: Tensor, draws: list[Draw]) -> list[_Drawn]:
        try:
            return self._draw(logits_RV, draws)
        except Exception as error:
            if len(draws) == 1:
                logger.exception("Row %d could not be sampled; only its sequence ends.", draws[0].row)
                draws[0].fail(f"The next token could not be sampled: {type(error).__name__}: {error}")
                return [_Drawn(-1)]
            logger.warning("Sampling %d rows failed (%s); trying them one by one.", len(draws), type(error).__name__)
        return [self._draw_contained(logits_RV[i : i + 1], [draw])[0] for i, draw in enumerate(draws)]

    def _draw(self, logits_RV: Tensor, draws: list[Draw]) -> list[_Drawn]:
        """The raw logits stay as they are: stages work on copies."""
        token_ids = self._greedy(logits_RV)
        shaped: list[int] = []
        drawing: list[int] = []
        for line, draw in enumerate(draws):
            if token_ids[line] < 0:
                draw.fail(_NOT_FINITE)
            if draw.error:
                continue
            if draw.row in self._shaped:
                shaped.append(line)
            elif draw.sampling.temperature > 0.0:
                drawing.append(line)
        if drawing:
            picked = self._chance.draw(logits_RV, drawing, [draws[line] for line in drawing])
            for line, token_id in zip(drawing, picked, strict=True):
                token_ids[line] = token_id
        for start, stop in pieces(len(shaped), logits_RV.shape[1]):
            lines = shaped[start:stop]
            picked = self._shape_and_pick(logits_RV[lines].float(), [draws[line] for line in lines])
            for line, token_id in zip(lines, picked, strict=True):
                token_ids[line] = token_id
        drawn = [_Drawn(token_id) for token_id in token_ids]
        self._add_logprobs(logits_RV, draws, drawn)
        return drawn

    def _shape_and_pick(self, logits_RV: Tensor, draws: list[Draw]) -> list[int]:
        for stage in self._before:
            stage.apply(logits_RV, draws)
        greedy = logits_RV.max(dim=1)
        _refuse_unusable(logits_RV, greedy.values, draws)
        token_ids: list[int] = greedy.indices.tolist()
        lines = [line for line, draw in enumerate(draws) if draw.sampling.temperature > 0.0]
        if lines:
            picked = self._chance.draw(logits_RV, lines, [draws[line] for line in lines])
            for line, token_id in zip(lines, picked, strict=True):
                token_ids[line] = token_id
        return token_ids

    def _add_logprobs(self, logits_RV: Tensor, draws: list[Draw], drawn: list[_Drawn]) -> None:
        """Logprobs for the rows that want any, together for rows that want the same ones."""
        alike: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for line, draw in enumerate(draws):
            if not draw.error and _wants_logprobs(draw.sampling):
                alike.setdefault((draw.sampling.num_logprobs, draw.sampling.logprob_token_ids), []).append(line)
        for (num_top, named), lines in alike.items():
            found = self._logprobs(logits_RV, lines, [drawn[line].token_id for line in lines], num_top, named)
            for line, logprobs in zip(lines, found, strict=True):
                drawn[line].logprobs = logprobs

    def _prompt_logprobs(self, hidden_KM: Tensor, span: PromptSpan) -> tuple[TokenLogprobs, ...] | str:
        """Logprobs of the span's tokens, or why there are none."""
        targets: list[int] = span.target_ids_host.tolist()
        num_top, named = max(0, span.sampling.num_prompt_logprobs), span.sampling.logprob_token_ids
        found: list[TokenLogprobs] = []
        for start in range(0, len(targets), self._prompt_rows):
            part = targets[start : start + self._prompt_rows]
            logits_NV = self._head(hidden_KM[span.start + start : span.start + start + len(part)])
            if -1 in self._greedy(logits_NV):
                return _NOT_FINITE
            try:
                found += self._logprobs(logits_NV, range(len(part)), part, num_top, named)
            except Exception as error:
                logger.exception("Logprobs of a prompt failed; only its sequence ends.")
                return f"The prompt's logprobs could not be computed: {type(error).__name__}: {error}"
        return tuple(found)


_NOT_FINITE = "The model computed NaN or infinity for this sequence (numerical_error)."
_NO_TOKEN = "No token may follow: allowed_token_ids, bad_words, min_tokens and processors together forbid all of them."


def _bind_chance(config: WorkerConfig) -> Chance:
    """Drawing by kernels comes with the native products (ops/op.py)."""
    if config.linear_backend == "torch":
        return StagedChance(tuple(stage(config) for stage in AFTER_THE_PICK))
    from quire.sampling.chance_native import NativeChance

    return NativeChance(config.max_num_seqs)


def _bind_logprobs(config: WorkerConfig) -> Logprobs:
    if config.linear_backend == "torch":
        return logprobs_of_lines
    from quire.sampling.logprobs_native import NativeLogprobs

    return NativeLogprobs()


def _refuse_unusable(logits_RV: Tensor, greatest_R: Tensor, draws: list[Draw]) -> None:
    """Rows whose greatest logit is no number fail; their lines become 0, so that the stages to come have something to
    work on.
    """
    for line, greatest in enumerate(greatest_R.tolist()):
        if greatest == -torch.inf:
            draws[line].fail(_NO_TOKEN)
        elif not abs(greatest) < torch.inf:
            draws[line].fail("A penalty, a bias or a processor made a logit NaN or infinite.")
        if draws[line].error:
            logits_RV[line] = 0.0


def _wants_logprobs(sampling: Sampling) -> bool:
    return sampling.num_logprobs >= 0 or bool(sampling.logprob_token_ids)
