"""The one check of every request, whatever door it came through: what a client wrote becomes a core.request.Request
or an error.

Nothing behind this check looks at a bound again. Decisions that are not errors: ``temperature`` below 0.00001 is
greedy, and then ``top_p``, ``top_k`` and ``min_p`` are off and ``n`` samples are equal; ``top_k`` beyond the
vocabulary is off; a ``logit_bias`` beyond 100 counts as 100.

Not here: the bounds (limits.py), prompts as text (prompt.py), HTTP fields (server/schema).
Door: Validator, Admitted.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count

from msgspec import Struct, structs

from quire.config.decided import TextConfig
from quire.core.ids import RequestId
from quire.core.params import OutputKind, SamplingParams
from quire.core.request import Request, Sampling, Stopping
from quire.errors import InvalidValue, PromptTooLong
from quire.text.limits import (
    COUNTS,
    GREEDY_BELOW,
    LIMITS,
    MAX_BAD_WORD_CHARS,
    MAX_BAD_WORD_TOKENS,
    MAX_PROMPT_LOGPROBS,
    MAX_STOP_CHARS,
    Bounds,
    checked_bool,
    checked_float,
    checked_ids,
    checked_int,
    checked_list,
    checked_salt,
    shown,
)
from quire.text.tokenizer import Tokenizer, check_unicode


class TextOptions(Struct, frozen=True):
    """What the front keeps of a request: how its tokens become text. ``min_tokens``: stop strings do not count before
    so many tokens.
    """

    stop: tuple[str, ...] = ()
    include_stop: bool = False
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    output_kind: OutputKind = OutputKind.CUMULATIVE
    min_tokens: int = 0
    wants_logprobs: bool = False
    wants_prompt_logprobs: bool = False


class Admitted(Struct, frozen=True):
    """A request that passed: one half goes to the engine, the other stays in front."""

    request: Request
    options: TextOptions


def default_params(config: TextConfig) -> SamplingParams:
    """Sampling parameters with the model's own defaults; a door puts what its client wrote over them.

    ``max_tokens`` is the model's, else 16; the chat door starts from None (the rest of the context) where the model
    says nothing.
    """
    said = {name: value for name, value in structs.asdict(config.defaults).items() if value is not None}
    return SamplingParams(**said)


def drawn_seeds() -> Callable[[], int]:
    """Seeds nobody can foresee, for requests without one."""
    return lambda: secrets.randbits(53)  # As many as a number of JavaScript shows.


def counted_seeds(seed: int) -> Callable[[], int]:
    """Seeds that follow from ``seed`` and the number of requests before: the same program gets the same tokens
    again.
    """
    numbers = count()

    def next_seed() -> int:
        digest = hashlib.sha256(f"{seed}:{next(numbers)}".encode()).digest()
        return int.from_bytes(digest[:8], "little") >> 1

    return next_seed


class Validator:
    """Checks requests against one model's bounds. ``next_seed`` gives the seed of a request that has none."""

    def __init__(
        self,
        config: TextConfig,
        tokenizer: Tokenizer | None,
        next_seed: Callable[[], int] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._config = config
        self._tokenizer = tokenizer
        self._next_seed = next_seed or drawn_seeds()
        eos = dict.fromkeys(config.eos_token_ids)
        if tokenizer is not None and tokenizer.eos_token_id is not None and tokenizer.eos_token_id < config.vocab_size:
            eos[tokenizer.eos_token_id] = None
        self._eos_token_ids = tuple(eos)

    def admit(
        self,
        request_id: RequestId,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        priority: int = 0,
        cache_salt: str = "",
        clamps_max_tokens: bool,
        max_stop_strings: int = COUNTS["stop"],
        prompt_param: str = "prompt",
        timeout_s: float | None = None,
        tenant: str = "",
        weight: float = 1.0,
        shares_prefixes: bool = True,
    ) -> Admitted:
        """Checks everything about a request.

        ``clamps_max_tokens``: a ``max_tokens`` beyond the context is cut to it (the library) instead of refused
        (servers). ``prompt_param``: what the door calls its prompt. ``timeout_s``: the request ends when so many
        seconds have passed from now. ``shares_prefixes``: whether other tenants may find its KV in the prefix cache.

        Raises: InvalidValue or PromptTooLong; ``param`` names the field.
        """
        n = checked_int("n", params.n, 1, self._config.max_n)
        prompt = self._prompt(prompt_ids, params, prompt_param)
        stopping = self._stopping(prompt, params, clamps_max_tokens, prompt_param)
        sampling = self._sampling(params)
        _check_some_token_is_left(sampling, stopping)
        _check_prompt_logprobs(len(prompt), sampling)
        wants_prompt_logprobs = sampling.num_prompt_logprobs >= 0
        skips_cache = params.skip_reading_prefix_cache
        if skips_cache is not None:
            checked_bool("skip_reading_prefix_cache", skips_cache)
        request = Request(
            id=request_id,
            prompt_ids=prompt,
            sampling=sampling,
            stopping=stopping,
            n=n,
            priority=checked_int("priority", priority),
            # No salt of a client's has a slash: two tenants never have the same one.
            cache_salt=checked_salt(cache_salt) if shares_prefixes else f"{tenant}/{checked_salt(cache_salt)}",
            reads_prefix_cache=not (skips_cache or wants_prompt_logprobs),
            tenant=tenant,
            weight=weight,
            deadline_s=0.0 if timeout_s is None else self._clock() + checked_float("timeout", timeout_s),
        )
        return Admitted(request, self._options(params, stopping.min_tokens, sampling, max_stop_strings))

    def _prompt(self, prompt_ids: Sequence[int], params: SamplingParams, param: str) -> tuple[int, ...]:
        config = self._config
        prompt = checked_ids(param, prompt_ids, config.vocab_size)
        if params.truncate_prompt_tokens is not None:
            kept = checked_int("truncate_prompt_tokens", params.truncate_prompt_tokens)
            if kept < 0:
                wanted = 1 if params.max_tokens is None else checked_int("max_tokens", params.max_tokens)
                kept = max(1, min(config.max_model_len, config.max_num_tokens) - wanted)
            prompt = prompt[max(0, len(prompt) - kept) :]
        if not prompt:
            bos = self._tokenizer.bos_token_id if self._tokenizer is not None else None
            if bos is None or bos >= config.vocab_size:
                raise InvalidValue(
                    "The prompt is empty, and this model has no token to begin a text with.", param=param
                )
            prompt = (bos,)
        if len(prompt) >= config.max_model_len:
            raise PromptTooLong(
                f"The prompt has {len(prompt)} tokens; the context takes {config.max_model_len}, one for the output. "
                f"Shorten it by {len(prompt) - config.max_model_len + 1} or raise --max-model-len.",
                param=param,
            )
        if len(prompt) >= config.max_num_tokens:
            raise PromptTooLong(
                f"The prompt has {len(prompt)} tokens; the KV cache holds {config.max_num_tokens}, one for the output. "
                f"Shorten it by {len(prompt) - config.max_num_tokens + 1} or give the KV cache more memory.",
                param=param,
            )
        return prompt

    def _stopping(self, prompt: tuple[int, ...], params: SamplingParams, clamps: bool, prompt_param: str) -> Stopping:
        room = min(self._config.max_model_len, self._config.max_num_tokens) - len(prompt)
        max_tokens = room if params.max_tokens is None else checked_int("max_tokens", params.max_tokens)
        min_tokens = checked_int("min_tokens", params.min_tokens)
        if min_tokens > max_tokens:
            raise InvalidValue(
                f"min_tokens must be at most max_tokens ({max_tokens}), got {min_tokens}.", param="min_tokens"
            )
        if max_tokens > room:
            if not clamps:
                raise self._too_long(len(prompt), max_tokens, room, prompt_param)
            max_tokens, min_tokens = room, min(min_tokens, room)
        stop_ids = checked_list("stop_token_ids", params.stop_token_ids or [])
        return Stopping(
            max_tokens=max_tokens,
            min_tokens=min_tokens,
            eos_token_ids=() if checked_bool("ignore_eos", params.ignore_eos) else self._eos_token_ids,
            stop_token_ids=tuple(dict.fromkeys(checked_ids("stop_token_ids", stop_ids, self._config.vocab_size))),
        )

    def _too_long(self, num_prompt: int, max_tokens: int, room: int, param: str) -> PromptTooLong:
        config = self._config
        is_pool = config.max_num_tokens < config.max_model_len
        place = (
            f"the KV cache holds {config.max_num_tokens}" if is_pool else f"the context takes {config.max_model_len}"
        )
        remedy = "give the KV cache more memory" if is_pool else "raise --max-model-len"
        return PromptTooLong(
            f"The prompt has {num_prompt} tokens and max_tokens asks for {max_tokens} more; {place}. "
            f"Ask for at most {room}, shorten the prompt or {remedy}.",
            param=param,
        )

    def _sampling(self, params: SamplingParams) -> Sampling:
        vocab_size = self._config.vocab_size
        temperature = checked_float("temperature", params.temperature)
        top_p = checked_float("top_p", params.top_p)
        min_p = checked_float("min_p", params.min_p)
        top_k = max(0, checked_int("top_k", params.top_k))
        if temperature < GREEDY_BELOW:
            temperature, top_p, top_k, min_p = 0.0, 1.0, 0, 0.0
        allowed = params.allowed_token_ids
        if allowed is not None and not checked_list("allowed_token_ids", allowed, vocab_size):
            raise InvalidValue(
                "allowed_token_ids must hold at least one id; leave it out to allow all.", param="allowed_token_ids"
            )
        wanted = checked_ids(
            "logprob_token_ids", checked_list("logprob_token_ids", params.logprob_token_ids or []), vocab_size
        )
        return Sampling(
            seed=self._seed(params.seed),
            temperature=temperature,
            top_p=top_p,
            top_k=top_k if top_k < vocab_size else 0,
            min_p=min_p,
            presence_penalty=checked_float("presence_penalty", params.presence_penalty),
            frequency_penalty=checked_float("frequency_penalty", params.frequency_penalty),
            repetition_penalty=checked_float("repetition_penalty", params.repetition_penalty),
            logit_bias=self._logit_bias(params.logit_bias),
            allowed_token_ids=tuple(dict.fromkeys(checked_ids("allowed_token_ids", allowed or (), vocab_size))),
            bad_words_ids=self._bad_words(params.bad_words),
            num_logprobs=self._num_logprobs(params.logprobs, wanted),
            num_prompt_logprobs=self._logprobs("prompt_logprobs", params.prompt_logprobs),
            logprob_token_ids=wanted,
            processors=self._processors(params.logits_processors),
        )

    def _seed(self, seed: int | None) -> int:
        """-1 asks for a drawn seed, as None does."""
        if seed is None or checked_int("seed", seed) == -1:
            return self._next_seed()
        return seed

    def _logprobs(self, name: str, value: int | None) -> int:
        """-1 in a request means the whole vocabulary; -1 in the result means none."""
        if value is None:
            return -1
        bound, vocab_size = self._config.max_logprobs, self._config.vocab_size
        asked = checked_int(name, value, -1, 2**31 - 1)
        if bound >= 0 and (asked == -1 or asked > bound):
            raise InvalidValue(f"{name} must be between 0 and {bound} (--max-logprobs), got {asked}.", param=name)
        return vocab_size if asked == -1 else min(asked, vocab_size)

    def _num_logprobs(self, value: int | None, wanted: tuple[int, ...]) -> int:
        number = self._logprobs("logprobs", value)
        if wanted and value is not None and value != len(wanted):
            raise InvalidValue(
                f"logprobs must be left out or equal the number of logprob_token_ids ({len(wanted)}), got {value}.",
                param="logprobs",
            )
        return len(wanted) if wanted else number

    def _logit_bias(self, bias: dict[int, float] | None) -> tuple[tuple[int, float], ...]:
        """JSON has no integer keys, so a key may be the decimal text of an id."""
        if bias is None:
            return ()
        if not isinstance(bias, dict):
            raise InvalidValue(f"logit_bias must be an object, got {shown(bias)}.", param="logit_bias")
        checked_list("logit_bias", list(bias))
        keys: list[object] = [_as_id(key) for key in bias]
        ids = checked_ids("logit_bias", keys, self._config.vocab_size)
        finite = Bounds(-sys.float_info.max, sys.float_info.max)
        values = (checked_float("logit_bias", value, finite) for value in bias.values())
        low, high, _ = LIMITS["logit_bias"]
        return tuple((id, min(max(value, low), high)) for id, value in zip(ids, values, strict=True))

    def _bad_words(self, words: list[str] | None) -> tuple[tuple[int, ...], ...]:
        """Each word as it may stand: at the start of a text, after a space, after a line break."""
        if not words:
            return ()
        if self._tokenizer is None:
            raise InvalidValue("bad_words need a tokenizer, and this engine runs without one.", param="bad_words")
        found: dict[tuple[int, ...], None] = {}
        line_break = self._tokenizer.encode("\n", add_special_tokens=False)
        for word in checked_list("bad_words", words):
            if not isinstance(word, str) or not word.strip() or len(word) > MAX_BAD_WORD_CHARS:
                raise InvalidValue(
                    f"bad_words must be words of 1 to {MAX_BAD_WORD_CHARS} characters, got {shown(word)}.",
                    param="bad_words",
                )
            check_unicode(word, "bad_words")
            bare = word.lstrip()
            for text in (bare, f" {bare}"):
                found[tuple(self._tokenizer.encode(text, add_special_tokens=False))] = None
            after_break = self._tokenizer.encode(f"\n{bare}", add_special_tokens=False)
            if after_break[: len(line_break)] == line_break:
                found[tuple(after_break[len(line_break) :])] = None
        found.pop((), None)
        num_tokens = sum(map(len, found))
        if num_tokens > MAX_BAD_WORD_TOKENS:
            raise InvalidValue(
                f"bad_words may have at most {MAX_BAD_WORD_TOKENS} tokens together, got {num_tokens}.",
                param="bad_words",
            )
        return tuple(checked_ids("bad_words", ids, self._config.vocab_size) for ids in found)

    def _processors(self, names: list[str] | None) -> tuple[str, ...]:
        if not names:
            return ()
        served = self._config.logits_processors
        for name in checked_list("logits_processors", names):
            if name not in served:
                raise InvalidValue(
                    "logits_processors takes the names that the engine's option logits_processors lists "
                    f"({', '.join(served) or 'none'}), got {shown(name)}.",
                    param="logits_processors",
                )
        return tuple(names)

    def _options(self, params: SamplingParams, min_tokens: int, sampling: Sampling, max_stops: int) -> TextOptions:
        detokenizes = checked_bool("detokenize", params.detokenize) and self._tokenizer is not None
        stops = _stop_strings(params.stop, max_stops)
        if stops and not detokenizes:
            reason = "detokenize is false" if self._tokenizer is not None else "this engine runs without a tokenizer"
            raise InvalidValue(f"stop needs text, but {reason}; use stop_token_ids.", param="stop")
        try:
            output_kind = OutputKind(params.output_kind)
        except ValueError as error:
            raise InvalidValue(
                f"output_kind must be 0, 1 or 2, got {shown(params.output_kind)}.", param="output_kind"
            ) from error
        return TextOptions(
            stop=stops,
            include_stop=checked_bool("include_stop_str_in_output", params.include_stop_str_in_output),
            detokenize=detokenizes,
            skip_special_tokens=checked_bool("skip_special_tokens", params.skip_special_tokens),
            spaces_between_special_tokens=checked_bool(
                "spaces_between_special_tokens", params.spaces_between_special_tokens
            ),
            output_kind=output_kind,
            min_tokens=min_tokens,
            wants_logprobs=sampling.num_logprobs >= 0,
            wants_prompt_logprobs=sampling.num_prompt_logprobs >= 0,
        )


def _stop_strings(stop: str | list[str] | None, most: int) -> tuple[str, ...]:
    if stop is None:
        return ()
    strings = checked_list("stop", [stop] if isinstance(stop, str) else stop, most)
    checked: list[str] = []
    for string in strings:
        if not isinstance(string, str) or not 1 <= len(string) <= MAX_STOP_CHARS:
            raise InvalidValue(
                f"stop must hold strings of 1 to {MAX_STOP_CHARS} characters, got {shown(string)}.", param="stop"
            )
        checked.append(string)
    return tuple(dict.fromkeys(checked))


def _as_id(key: object) -> object:
    return int(key) if isinstance(key, str) and key.isdecimal() and key.isascii() and len(key) < 20 else key


def _check_prompt_logprobs(num_tokens: int, sampling: Sampling) -> None:
    """A position has its own token and the most likely ones, or the named ones."""
    if sampling.num_prompt_logprobs < 0:
        return
    each = 1 + (len(sampling.logprob_token_ids) or sampling.num_prompt_logprobs)
    if num_tokens * each > MAX_PROMPT_LOGPROBS:
        raise InvalidValue(
            f"prompt_logprobs asks for {each} logprobs at each of {num_tokens} tokens; {MAX_PROMPT_LOGPROBS} are given "
            f"at most. Ask for {MAX_PROMPT_LOGPROBS // num_tokens} at each, or shorten the prompt.",
            param="prompt_logprobs",
        )


def _check_some_token_is_left(sampling: Sampling, stopping: Stopping) -> None:
    """With a list of allowed ids, something must remain of it once bad words and, before min_tokens, ends are
    masked.
    """
    if not sampling.allowed_token_ids:
        return
    masked = {ids[0] for ids in sampling.bad_words_ids if len(ids) == 1}
    if stopping.min_tokens > 0:
        masked |= {*stopping.eos_token_ids, *stopping.stop_token_ids}
    if masked.issuperset(sampling.allowed_token_ids):
        raise InvalidValue(
            "No token is left: bad_words, or the ends that min_tokens forbids, mask every one of allowed_token_ids.",
            param="allowed_token_ids",
        )
