"""Logprobs of the raw distribution: a token's own, and the most likely ones' or those of named ids.

Not here: which positions are wanted (draw.py), the kernel for the CPU (logprobs_native.py), text of tokens (text/).
Door: token_logprobs, logprobs_of_lines, Logprobs.
"""

# Shapes: N positions, V vocabulary, K further tokens a position.

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from quire.core.step import TokenLogprobs
from quire.sampling.most_likely import most_likely
from quire.sampling.pieces import pieces


class Logprobs(Protocol):
    """``logprobs_of_lines``, however they are computed."""

    def __call__(
        self,
        logits_RV: Tensor,
        lines: Sequence[int],
        token_ids: Sequence[int],
        num_top: int,
        further_ids: Sequence[int],
    ) -> list[TokenLogprobs]: ...


def logprobs_of_lines(
    logits_RV: Tensor, lines: Sequence[int], token_ids: Sequence[int], num_top: int, further_ids: Sequence[int]
) -> list[TokenLogprobs]:
    """``token_logprobs`` of some lines of the logits, to which the token ids belong one to one."""
    result: list[TokenLogprobs] = []
    for start, stop in pieces(len(lines), logits_RV.shape[1]):
        result += _piece(logits_RV[list(lines[start:stop])], token_ids[start:stop], num_top, further_ids)
    return result


def token_logprobs(
    logits_NV: Tensor, token_ids: Sequence[int], num_top: int, further_ids: Sequence[int] = ()
) -> list[TokenLogprobs]:
    """Logprobs at N positions: first the token that stands there, then ``further_ids`` in their order, or else the
    ``num_top`` most likely ones.

    A rank is 1 + the number of tokens with a strictly greater logprob, so equal tokens share one. Of equally likely
    tokens the lower id comes first. ``num_top`` may be V or more. The logits stay as they are.
    """
    return logprobs_of_lines(logits_NV, range(len(token_ids)), token_ids, num_top, further_ids)


def _piece(
    logits_NV: Tensor, token_ids: Sequence[int], num_top: int, further_ids: Sequence[int]
) -> list[TokenLogprobs]:
    logprobs_NV = torch.log_softmax(logits_NV, dim=1, dtype=torch.float32)
    own_ids = torch.tensor(token_ids, dtype=torch.int64, device=logits_NV.device)[:, None]
    own = logprobs_NV.gather(1, own_ids)
    ids = [own_ids]
    values = [own]
    ranks = [_ranks(logprobs_NV, own)]
    if further_ids:
        named = torch.tensor(further_ids, dtype=torch.int64, device=logits_NV.device).expand(len(token_ids), -1)
        ids.append(named)
        values.append(logprobs_NV.gather(1, named))
        ranks.append(_ranks(logprobs_NV, values[1]))
    elif num_top > 0:
        top, top_ids = most_likely(logprobs_NV, min(num_top, logprobs_NV.shape[1]))
        ids.append(top_ids)
        values.append(top)
        ranks.append(_ranks_of_sorted(top))
    columns = (torch.cat(parts, dim=1).tolist() for parts in (ids, values, ranks))
    return [TokenLogprobs(tuple(a), tuple(b), tuple(c)) for a, b, c in zip(*columns, strict=True)]


def _ranks(logprobs_NV: Tensor, values_NK: Tensor) -> Tensor:
    counts = [torch.count_nonzero(logprobs_NV > values_N[:, None], dim=1) for values_N in values_NK.unbind(dim=1)]
    return torch.stack(counts, dim=1) + 1


def _ranks_of_sorted(values_NK: Tensor) -> Tensor:
    """Ranks of the most likely tokens among all: whatever is greater stands before them in the same line."""
    falling_host = -values_NK.cpu().numpy()
    ranks_host = np.stack([np.searchsorted(line, line, side="left") for line in falling_host]) + 1
    return torch.from_numpy(ranks_host).to(values_NK.device)
