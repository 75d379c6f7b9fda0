"""When requests arrive and what they ask: drawn once, before the clock runs.

Not here: sending them (serve.py).
Door: Arrival, RandomPrompts, draw_arrivals.
"""

from __future__ import annotations

import math
import random

from msgspec import Struct

from quire.errors import ConfigError

_SYLLABLES = ("ka", "lo", "mi", "ne", "ru", "sa", "ti", "vo", "be", "do", "fu", "ga")


class RandomPrompts(Struct, frozen=True):
    """Lengths in tokens, each drawn evenly from ``length * (1 - range_ratio)`` to ``length * (1 + range_ratio)``.

    ``prefix_len`` tokens at the start are the same for all prompts. Ids are drawn below ``vocab_size``.
    """

    input_len: int
    output_len: int
    range_ratio: float = 0.0
    prefix_len: int = 0
    vocab_size: int = 1000


class Arrival(Struct, frozen=True):
    """One request: when it is sent (seconds after the start), its prompt (ids or text), and how many tokens it asks."""

    at_s: float
    prompt: list[int] | str
    output_len: int


def draw_arrivals(
    prompts: RandomPrompts, *, num: int, rate: float, burstiness: float = 1.0, seed: int = 0, as_text: bool = False
) -> list[Arrival]:
    """``num`` arrivals in order of time, ``rate`` a second (``math.inf``: all at once).

    ``burstiness`` 1 is a Poisson process, below 1 comes in bursts. Equal arguments give equal arrivals. The gaps are
    scaled so that the last request comes at ``(num - 1) / rate``.

    Raises: ConfigError when a number is out of its bounds.
    """
    _check(prompts, num, rate, burstiness)
    chance = random.Random(seed)
    prefix = [chance.randrange(prompts.vocab_size) for _ in range(prompts.prefix_len)]
    times = _times(chance, num, rate, burstiness)
    return [
        Arrival(
            at_s=at_s,
            prompt=_text(chance, prompts) if as_text else prefix + _ids(chance, prompts),
            output_len=_length(chance, prompts.output_len, prompts.range_ratio),
        )
        for at_s in times
    ]


def _check(prompts: RandomPrompts, num: int, rate: float, burstiness: float) -> None:
    if num < 1 or not rate > 0 or not 0 < burstiness < math.inf:
        raise ConfigError(
            f"{num} requests at {rate} a second with burstiness {burstiness}: "
            "all three must be above 0, and burstiness finite."
        )
    if min(prompts.input_len, prompts.output_len, prompts.vocab_size) < 1 or prompts.prefix_len < 0:
        raise ConfigError("Prompt, output and vocabulary must be at least 1 long, the shared prefix at least 0.")
    if not 0 <= prompts.range_ratio < 1:
        raise ConfigError(f"The range ratio is {prompts.range_ratio}; it must be at least 0 and below 1.")


def _times(chance: random.Random, num: int, rate: float, burstiness: float) -> list[float]:
    if rate == math.inf:
        return [0.0] * num
    at_s = [0.0]
    for _ in range(num - 1):
        at_s.append(at_s[-1] + chance.gammavariate(burstiness, 1 / (rate * burstiness)))
    scale = (num - 1) / rate / at_s[-1] if at_s[-1] else 1.0
    return [one * scale for one in at_s]


def _length(chance: random.Random, length: int, ratio: float) -> int:
    return max(1, chance.randint(math.floor(length * (1 - ratio)), math.ceil(length * (1 + ratio))))


def _ids(chance: random.Random, prompts: RandomPrompts) -> list[int]:
    num_ids = _length(chance, prompts.input_len, prompts.range_ratio)
    return [chance.randrange(prompts.vocab_size) for _ in range(num_ids)]


def _text(chance: random.Random, prompts: RandomPrompts) -> str:
    """As many words as tokens are asked. A word is one token or a few: what is reported is the server's own count."""
    words = _length(chance, prompts.input_len, prompts.range_ratio)
    return " ".join(chance.choice(_SYLLABLES) + chance.choice(_SYLLABLES) for _ in range(words))
