"""The sampler: hidden states in, next tokens and logprobs out.

The order of the stages is decided here. Logprobs are of the raw distribution, before any stage.

A row that cannot be sampled fails alone: its logits are not finite, no token is left, a processor of its own is at
fault, or something raises (then the rows are sampled one by one, and only the culprit fails). What the model's head
raises is not contained here.

Not here: which rows draw (worker/inputs.py), one change of logits (stages/), chance (noise.py).
Door: Sampler, Head.
"""

# Shapes: T tokens of the step, M model size, R rows that draw, V vocabulary, N positions of a prompt.

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quire.config.decided import WorkerConfig
from quire.core.ids import Row
from quire.core.request import Sampling
from quire.core.step import NewRow, RowResult, TokenLogprobs
from quire.sampling.draw import Draw, PromptSpan, Want
from quire.sampling.logprobs import token_logprobs
from quire.sampling.noise import tokens_at, uniforms
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


@dataclass(slots=True)
class _Drawn:
    token_id: int
    logprobs: TokenLogprobs | None = None


class Sampler:
    """Samples a step's rows. Live state: the stages' columns and which rows are plain, that is greedy with no stage
    at all.
    """

    def __init__(self, config: WorkerConfig, head: Head) -> None:
        self._head = head
        self._before = tuple(stage(config) for stage in BEFORE_THE_PICK)
        self._after = tuple(stage(config) for stage in AFTER_THE_PICK)
        self._plain: set[Row] = set()
        # The buffer of logits is reckoned as max_num_seqs rows; a prompt's logits must not need more, but single rows
        # would be slow.
        self._prompt_rows = min(_MAX_PROMPT_ROWS, max(_MIN_PROMPT_ROWS, config.max_num_seqs))

    def enter(self, new: NewRow) -> None:
        """A sequence takes a row: whatever the row's columns held before is replaced."""
        is_changed = [stage.enter(new) for stage in (*self._before, *self._after)]
        if new.sampling.temperature == 0.0 and not any(is_changed):
            self._plain.add(new.row)
        else:
            self._plain.discard(new.row)

    def leave(self, row: Row) -> None:
        """Forget a row."""
        self._plain.discard(row)
        for stage in (*self._before, *self._after):
            stage.leave(row)

    def sample(self, hidden_TM: Tensor, wants: Sequence[Want]) -> tuple[RowResult, ...]:
        """One result for each want, in order. Changes nothing, so that it may be called again for the same step."""
        drawing = [(number, want.last, want.draw) for number, want in enumerate(wants) if want.draw is not None]
        draws = [draw for _, _, draw in drawing]
        drawn: dict[int, _Drawn] = {}
        if drawing:
            lasts = torch.tensor([last for _, last, _ in drawing], device=hidden_TM.device)
            tokens = self._draw_contained(self._head(hidden_TM[lasts]), draws)
            drawn = {number: token for (number, _, _), token in zip(drawing, tokens, strict=True)}
        return tuple(self._result(hidden_TM, want, drawn.get(number)) for number, want in enumerate(wants))

    def _result(self, hidden_TM: Tensor, want: Want, drawn: _Drawn | None) -> RowResult:
        if want.draw is not None and want.draw.error:
            return RowResult(want.row, error=want.draw.error)
        prompt: tuple[TokenLogprobs, ...] = ()
        if want.prompt is not None:
            found = self._prompt_logprobs(hidden_TM, want.prompt)
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
        _refuse_broken(logits_RV, draws)
        is_plain = [draw.row in self._plain for draw in draws]
        token_ids = logits_RV.argmax(dim=1).tolist() if any(is_plain) else [-1] * len(draws)
        shaped = [line for line, plain in enumerate(is_plain) if not plain and not draws[line].error]
        for start, stop in pieces(len(shaped), logits_RV.shape[1]):
            lines = shaped[start:stop]
            picked = self._shape_and_pick(logits_RV[lines].float(), [draws[line] for line in lines])
            for line, token_id in zip(lines, picked, strict=True):
                token_ids[line] = token_id
        drawn = [_Drawn(token_id) for token_id in token_ids]
        _add_logprobs(logits_RV, draws, drawn)
        return drawn

    def _shape_and_pick(self, logits_RV: Tensor, draws: list[Draw]) -> list[int]:
        for stage in self._before:
            stage.apply(logits_RV, draws)
        greedy = logits_RV.max(dim=1)
        _refuse_unusable(logits_RV, greedy.values, draws)
        picked: list[int] = greedy.indices.tolist()
        lines = [line for line, draw in enumerate(draws) if draw.sampling.temperature > 0.0]
        if not lines:
            return picked
        if len(lines) < len(draws):
            logits_RV, draws = logits_RV[lines], [draws[line] for line in lines]
        for stage in self._after:
            stage.apply(logits_RV, draws)
        numbers_host = uniforms(
            [draw.sampling.seed for draw in draws],
            [draw.sample_index for draw in draws],
            [len(draw.token_ids_host) for draw in draws],
        )
        tokens = tokens_at(logits_RV, torch.from_numpy(numbers_host).to(logits_RV.device))
        for line, token_id in zip(lines, tokens.tolist(), strict=True):
            picked[line] = token_id
        return picked

    def _prompt_logprobs(self, hidden_TM: Tensor, span: PromptSpan) -> tuple[TokenLogprobs, ...] | str:
        """Logprobs of the span's tokens, or why there are none."""
        targets: list[int] = span.target_ids_host.tolist()
        num_top, named = max(0, span.sampling.num_prompt_logprobs), span.sampling.logprob_token_ids
        found: list[TokenLogprobs] = []
        for start in range(0, len(targets), self._prompt_rows):
            part = targets[start : start + self._prompt_rows]
            logits_NV = self._head(hidden_TM[span.start + start : span.start + start + len(part)])
            if not bool(_is_finite(logits_NV).all()):
                return _NOT_FINITE
            try:
                found += token_logprobs(logits_NV, part, num_top, named)
            except Exception as error:
                logger.exception("Logprobs of a prompt failed; only its sequence ends.")
                return f"The prompt's logprobs could not be computed: {type(error).__name__}: {error}"
        return tuple(found)


_NOT_FINITE = "The model computed NaN or infinity for this sequence (numerical_error)."
_NO_TOKEN = "No token may follow: allowed_token_ids, bad_words, min_tokens and processors together forbid all of them."


def _is_finite(logits_RV: Tensor) -> Tensor:
    """Whether each row is free of NaN and infinity; two reductions are much cheaper than looking at every number's
    class.
    """
    return torch.isfinite(logits_RV.amin(dim=1)) & torch.isfinite(logits_RV.amax(dim=1))


def _refuse_broken(logits_RV: Tensor, draws: list[Draw]) -> None:
    is_finite = _is_finite(logits_RV)
    if not bool(is_finite.all()):
        for line in (~is_finite).nonzero()[:, 0].tolist():
            draws[line].fail(_NOT_FINITE)


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


def _add_logprobs(logits_RV: Tensor, draws: list[Draw], drawn: list[_Drawn]) -> None:
    """Logprobs for the rows that want any, together for rows that want the same ones."""
    alike: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for line, draw in enumerate(draws):
        if not draw.error and _wants_logprobs(draw.sampling):
            alike.setdefault((draw.sampling.num_logprobs, draw.sampling.logprob_token_ids), []).append(line)
    for (num_top, named), lines in alike.items():
        for start, stop in pieces(len(lines), logits_RV.shape[1]):
            part = lines[start:stop]
            found = token_logprobs(logits_RV[part], [drawn[line].token_id for line in part], num_top, named)
            for line, logprobs in zip(part, found, strict=True):
                drawn[line].logprobs = logprobs


def _wants_logprobs(sampling: Sampling) -> bool:
    return sampling.num_logprobs >= 0 or bool(sampling.logprob_token_ids)
