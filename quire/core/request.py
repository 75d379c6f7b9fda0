"""What a client asked, validated: token ids and numbers that the engine can trust.

Not here: what a user may write before validation (params.py), text of any kind.
Door: Request.
"""

from __future__ import annotations

from msgspec import Struct

from quire.core.ids import RequestId


class Sampling(Struct, frozen=True, array_like=True, gc=False):
    """How the next token is drawn. Every number is finite and inside its bounds, every id inside the vocabulary.

    ``temperature == 0.0`` means greedy. ``top_k == 0``, ``top_p == 1.0`` and ``min_p == 0.0`` mean off.
    The noise of position p is a pure function of (``seed``, sample index, p).
    """

    seed: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    allowed_token_ids: tuple[int, ...] = ()
    """Empty: every token is allowed."""
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    """Token sequences whose last token is masked whenever the ids before it are the last ids of the sequence."""
    num_logprobs: int = -1
    """-1: none asked; k >= 0: the sampled token's and the k most likely ones."""
    num_prompt_logprobs: int = -1
    logprob_token_ids: tuple[int, ...] = ()
    """Ids whose logprobs are wanted at every position, instead of the most likely ones."""
    processors: tuple[str, ...] = ()
    """Logits processors of the user's own, each ``module:attribute``, called in this order."""


class Stopping(Struct, frozen=True, array_like=True, gc=False):
    """When a sequence ends by itself. Stop strings are text: they live before the engine, which is told to cancel."""

    max_tokens: int
    min_tokens: int = 0
    eos_token_ids: tuple[int, ...] = ()
    """Ends of sequence of the model; empty when they are to be ignored."""
    stop_token_ids: tuple[int, ...] = ()
    """Ids that the client named."""


class Resumed(Struct, frozen=True, array_like=True, gc=False):
    """A sample that goes on where it stood when an engine was lost: ``token_ids`` were generated and told before."""

    index: int
    token_ids: tuple[int, ...] = ()


class Request(Struct, frozen=True, array_like=True, gc=False):
    """One prompt and ``n`` continuations of it.

    ``max_tokens + len(prompt_ids)`` never exceeds the context. ``arrival`` orders requests: smaller came first.
    """

    id: RequestId
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    stopping: Stopping
    n: int = 1
    priority: int = 0
    """Smaller is served first under the policy ``priority``."""
    cache_salt: str = ""
    reads_prefix_cache: bool = True
    resumed: tuple[Resumed, ...] = ()
    """Empty: all samples begin. Else only these go on, and only what is new is told of them."""
    tenant: str = ""
    """The name of the key that asks; empty: nobody's in particular."""
    weight: float = 1.0
    """The tenant's share beside others, under the policy ``fair``."""
    deadline_s: float = 0.0
    """On the machine's monotonic clock: what is unfinished then ends with ``timeout``. 0.0: none."""
