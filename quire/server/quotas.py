"""How much each key may use: requests at a time, and tokens a minute.

Not here: the file of keys (config/keys.py), who comes first among those let in (scheduler/policies/fair.py), the queue
of all (engine/admission.py).
Door: Quotas.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from quire.config.keys import ApiKey
from quire.errors import InvalidValue, RateLimited

_MINUTE_S = 60.0


@dataclass(slots=True)
class _Use:
    """What a key has used. ``tokens_left`` is of ``at_s``; it may be less than nothing."""

    tokens_left: float
    at_s: float
    num_requests: int = 0


class Quotas:
    """A bucket of tokens for each key that has a limit: it holds a minute's worth and fills evenly. A request comes in
    while there is anything in it, and takes its prompt at once and its output when it has ended.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._uses: dict[str, _Use] = {}

    def check(self, key: ApiKey, num_requests: int) -> None:
        """Raises: RateLimited with the time to wait when the key has used what it may; InvalidValue when it never
        may.
        """
        if key.max_concurrency is None and key.tokens_per_minute is None:
            return
        use = self._use(key)
        if key.max_concurrency is not None and num_requests > key.max_concurrency:
            raise InvalidValue(
                f"The request has {num_requests} prompts; this key may have {key.max_concurrency} at a time.",
                param="prompt",
            )
        if key.max_concurrency is not None and use.num_requests + num_requests > key.max_concurrency:
            raise RateLimited(
                f"This key may have {key.max_concurrency} requests at a time and has {use.num_requests}; this would be "
                f"{num_requests} more.",
                retry_after_s=1,
            )
        if key.tokens_per_minute is not None and use.tokens_left <= 0:
            wait_s = math.ceil((1 - use.tokens_left) * _MINUTE_S / key.tokens_per_minute)
            raise RateLimited(
                f"This key may use {key.tokens_per_minute} tokens a minute and has used them. Try again in {wait_s} s.",
                retry_after_s=wait_s,
            )

    def enter(self, key: ApiKey, num_prompt_tokens: int) -> None:
        """A request that was let in begins."""
        use = self._use(key)
        use.num_requests += 1
        use.tokens_left -= num_prompt_tokens

    def leave(self, key: ApiKey, num_generated_tokens: int) -> None:
        """It has ended."""
        use = self._use(key)
        use.num_requests -= 1
        use.tokens_left -= num_generated_tokens

    def _use(self, key: ApiKey) -> _Use:
        now_s, limit = self._clock(), float(key.tokens_per_minute or 0)
        use = self._uses.setdefault(key.name, _Use(limit, now_s))
        use.tokens_left = min(limit, use.tokens_left + (now_s - use.at_s) * limit / _MINUTE_S)
        use.at_s = now_s
        return use
