"""What each sequence must generate: the model run over plain lists, without blocks, tables or steps.

Not here: how the tokens are compared (simulation.py).
"""

from __future__ import annotations

from quire.core.events import FinishReason
from quire.core.request import Request
from tests.sim.model import first_reads, kv_value, next_token


class Expected:
    """One continuation. ``prompt_logprobs``: whether they were told.

    ``shared``: a sibling with the same prompt, just made.
    """

    __slots__ = ("generated", "index", "max_len", "prompt_logprobs", "reads", "request", "values", "windows")

    def __init__(
        self, request: Request, index: int, windows: tuple[int | None, ...], max_len: int, shared: Expected | None
    ) -> None:
        self.request, self.index, self.windows, self.max_len = request, index, windows, max_len
        self.generated: list[int] = []
        self.prompt_logprobs = False
        self.reads: list[list[int]] = shared.reads if shared else [first_reads(window, max_len) for window in windows]
        self.values: list[list[int]] = [list(values) for values in shared.values] if shared else [[] for _ in windows]
        if shared is None:
            for token in request.prompt_ids:
                self._append(token)

    def _append(self, token: int) -> None:
        position, salt = len(self.values[0]), self.request.sampling.seed
        for group, (reads, values) in enumerate(zip(self.reads, self.values, strict=True)):
            far = reads[position]
            previous, farthest = (values[-1], values[far]) if far < position else (0, 0)
            values.append(kv_value((previous, farthest, token, position, salt, group)))

    def advance(self) -> tuple[int, FinishReason | None, int | None]:
        """The next token, and whether and how it ends the sequence."""
        stopping, position = self.request.stopping, len(self.values[0])
        read = [
            tuple(values if window is None else values[max(0, position - window) :])
            for window, values in zip(self.windows, self.values, strict=True)
        ]
        ends = (*stopping.eos_token_ids, *stopping.stop_token_ids)
        token = next_token(read, self.index, ends if len(self.generated) < stopping.min_tokens else ())
        self.generated.append(token)
        self._append(token)
        if token in stopping.eos_token_ids:
            return token, "stop", None
        if token in stopping.stop_token_ids:
            return token, "stop", token
        if len(self.generated) == stopping.max_tokens or position + 1 >= self.max_len:
            return token, "length", None
        return token, None, None
