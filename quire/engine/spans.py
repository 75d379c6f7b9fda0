"""Where the time of one sequence went: each moment between its arrival and its end belongs to one cause.

Not here: who counts over all sequences (metrics.py), who shows it (server/).
Door: Spans, CAUSES.
"""

from __future__ import annotations

CAUSES = ("queue", "prefill", "decode", "preempted", "restart", "send")
"""queue: waiting for a row. prefill: computing its prompt, up to the first token. decode: between tokens. preempted:
it lost its blocks, until it has a row again. restart: the engine was replaced under it. send: from the last token to
the end of the answer, which is the client's time too."""


class Spans:
    """Times are seconds on one monotonic clock and come in order; one that comes early counts as now.

    Invariant: the seconds by cause add up to ``end - arrival`` once ``ended`` was called.
    """

    __slots__ = ("_cause", "_since_s", "arrived_s", "num_preemptions", "seconds")

    def __init__(self, arrived_s: float) -> None:
        self.arrived_s = arrived_s
        self.num_preemptions = 0
        self.seconds: dict[str, float] = {}
        self._cause = "queue"
        self._since_s = arrived_s

    @property
    def is_decoding(self) -> bool:
        """Whether it has told a token since it got its row."""
        return self._cause == "decode"

    def scheduled(self, at_s: float, last_token_s: float = 0.0) -> None:
        """It got a row. One that had a row and was not preempted comes from another engine; of the one before the last
        sign was its last token.
        """
        if self._cause == "decode":
            self._enter("restart", last_token_s)
        self._enter("prefill", at_s, past="restart" if self._cause == "prefill" else self._cause)

    def token(self, at_s: float) -> None:
        """New tokens came."""
        self._enter("decode", at_s)

    def preempted(self, at_s: float) -> None:
        """It lost its row and its blocks."""
        self.num_preemptions += 1
        self._enter("preempted", at_s)

    def ended(self, last_token_s: float, at_s: float) -> None:
        """Its answer is complete or given up; what lies behind the last token is sending."""
        if self._cause == "decode":
            self._enter("send", max(last_token_s, self._since_s))
        self._enter(self._cause, at_s)

    def _enter(self, cause: str, at_s: float, past: str | None = None) -> None:
        at_s = max(at_s, self._since_s)
        past = past or self._cause
        self.seconds[past] = self.seconds.get(past, 0.0) + at_s - self._since_s
        self._cause, self._since_s = cause, at_s
