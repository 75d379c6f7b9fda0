"""What is asked: a fixed mix of prompts, each asked greedily and by chance with a seed.

Prompts are short and long, end at, before and behind the ends of blocks, begin alike, equal each other, or differ in
one token. Requests end at different steps, and use between them every sampling parameter.

Not here: under which conditions (conditions.py), what came of it (answers.py).
Door: Ask, asks.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from quire.core.params import SamplingParams
from quire.text.tokenizer import Tokenizer
from training.folio.documents import document

MAX_LENGTH = 1400
"""Of the longest prompts: beyond the 1,024 keys at which attention cuts a sequence for several threads."""
ROOM = 96
"""What the context has beside the longest prompt."""


class Ask(NamedTuple):
    """One request; ``prompt`` numbers the prompts, each of which is asked twice."""

    prompt: int
    prompt_ids: list[int]
    params: SamplingParams
    priority: int


def asks(num_prompts: int, vocab_size: int, tokenizer: Tokenizer | None) -> list[Ask]:
    """Two requests for each prompt. A prompt never depends on how many there are.

    With a tokenizer, every other prompt is text such as the bundled model was trained on, and stop strings and bad
    words are asked for too.
    """
    source = Random(20)
    found: list[Ask] = []
    prompts: list[list[int]] = []
    for number in range(num_prompts):
        prompts.append(_prompt(number, prompts, _Tokens(source, vocab_size, tokenizer)))
        for is_greedy in (True, False):
            params = _params(number, source, vocab_size, is_greedy, tokenizer is not None)
            found.append(Ask(number, prompts[-1], params, source.randrange(3)))
    return found


class _Tokens:
    """Token ids from one source of chance."""

    def __init__(self, source: Random, vocab_size: int, tokenizer: Tokenizer | None) -> None:
        self.source = source
        self._vocab_size = vocab_size
        self._tokenizer = tokenizer

    def __call__(self, count: int) -> list[int]:
        """So many: random ones, or the beginning of a text."""
        if self._tokenizer is None or self.source.random() < 0.5:
            return [self.source.randrange(self._vocab_size) for _ in range(count)]
        ids: list[int] = []
        while len(ids) < count:
            ids += self._tokenizer.encode("".join(piece.text for piece in document(self.source)))
        return ids[:count]


def _prompt(number: int, before: list[list[int]], new: _Tokens) -> list[int]:
    """One of twenty shapes in turn."""
    first = number - number % 20
    earlier = before[first:]
    pick: dict[int, Callable[[], list[int]]] = {
        0: lambda: new(1),
        1: lambda: new(7),
        2: lambda: new(15),
        3: lambda: new(16),
        4: lambda: new(17),
        5: lambda: new(new.source.choice((31, 32, 33))),
        6: lambda: new(new.source.choice((63, 64, 65))),
        7: lambda: new(new.source.randint(100, 200)),
        8: lambda: new(new.source.randint(300, 600)),
        9: lambda: list(earlier[new.source.choice((1, 4, 7))]),
        10: lambda: [*earlier[8][:-1], *new(1)],
        11: lambda: [*earlier[8][:160], *new(1), *earlier[8][161:]],
        12: lambda: [*earlier[8][: new.source.randint(40, 290)], *new(20)],
        13: lambda: [*earlier[7], *new(30)],
        14: lambda: new(new.source.randint(2, 12)),
        15: lambda: new(new.source.randint(20, 60)),
        16: lambda: new(1) * new.source.randint(20, 60),
        17: lambda: [*before[8][:48], *new(new.source.randint(1, 9))],
        18: lambda: [*before[8][:48], *new(new.source.randint(20, 60))],
        19: lambda: new(new.source.randint(1030, MAX_LENGTH) if number % 40 == 39 else 130),
    }
    return pick[number - first]()


def _params(number: int, source: Random, vocab_size: int, is_greedy: bool, has_text: bool) -> SamplingParams:
    """One of thirteen sets of parameters in turn; 13 and 20 have no common divisor, so that all meet all shapes."""
    max_tokens = source.randint(64, ROOM) if number % 3 == 2 else source.randint(2, 40)
    params = SamplingParams(temperature=0.0, max_tokens=max_tokens, logprobs=5, ignore_eos=True)
    if not is_greedy:
        params.temperature, params.top_p, params.seed = 0.8, 0.9, 1000 + number
        params.top_k = source.choice((0, 20, 50))
    some = source.sample(range(vocab_size), min(vocab_size // 8, 1000))
    match number % 13:
        case 1:
            params.n = 1 if is_greedy else 3
        case 3:
            params.prompt_logprobs = 3
        case 4:
            params.repetition_penalty, params.presence_penalty, params.frequency_penalty = 1.2, 0.5, 0.3
        case 6:
            params.min_tokens, params.stop_token_ids = max_tokens // 2, some
        case 7:
            params.logit_bias = {id: source.uniform(-4.0, 4.0) for id in some[:40]}
        case 9:
            params.allowed_token_ids = some
        case 10:
            params.min_p, params.ignore_eos = 0.0 if is_greedy else 0.05, False
        case 11 if has_text:
            params.stop, params.bad_words = ["e", "1"] if number % 2 else ["zzz", "is"], ["the", "a"]
        case 12:
            params.logprobs, params.logprob_token_ids = None, some[:4]
    return params
