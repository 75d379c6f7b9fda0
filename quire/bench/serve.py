"""A server under load: requests that arrive over time, and how long people would have waited.

Not here: prompts and arrival times (arrivals.py), one request on the wire (stream.py), flags (cli/bench.py).
Door: Load, send_all, Goal, parse_goals, report.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from quire.bench.arrivals import Arrival
from quire.bench.figures import name_of, summarize
from quire.bench.stream import Answer, Backend, Target, ask
from quire.errors import ConfigError

METRICS = ("ttft", "tpot", "itl", "e2el")


class Load(Struct, frozen=True):
    """How the requests are made and sent. ``max_concurrency`` None: as many at once as arrive."""

    backend: Backend
    model: str
    fields: dict[str, object]
    """Further fields of each request's body, such as ``temperature`` or ``ignore_eos``."""
    max_concurrency: int | None = None


class Goal(Struct, frozen=True):
    """A request is good when the metric (one of METRICS but itl) is at most ``limit_ms``."""

    metric: str
    limit_ms: float


def parse_goals(texts: Sequence[str]) -> tuple[Goal, ...]:
    """Goals from texts such as ``ttft:200``.

    Raises: ConfigError for another metric than ttft, tpot and e2el, or no number of milliseconds.
    """
    goals = []
    for text in texts:
        metric, _, limit = text.partition(":")
        try:
            goal = Goal(metric, float(limit))
        except ValueError:
            raise ConfigError(f"--goodput takes METRIC:MILLISECONDS such as ttft:200, not {text!r}.") from None
        if metric not in ("ttft", "tpot", "e2el") or not goal.limit_ms >= 0:
            raise ConfigError(f"--goodput knows ttft, tpot and e2el with at least 0 milliseconds, not {text!r}.")
        goals.append(goal)
    return tuple(goals)


def body_of(load: Load, arrival: Arrival) -> dict[str, object]:
    """The request's JSON body."""
    body: dict[str, object] = {
        "model": load.model,
        "max_tokens": arrival.output_len,
        "stream": True,
        "stream_options": {"include_usage": True},
        **load.fields,
    }
    if load.backend == "openai-chat":
        body["messages"] = [{"role": "user", "content": arrival.prompt}]
    else:
        body["prompt"] = arrival.prompt
    return body


async def send_all(
    target: Target, load: Load, arrivals: Sequence[Arrival], *, on_answer: Callable[[Answer], None] = lambda _: None
) -> tuple[list[Answer], float]:
    """Send every arrival at its time.

    The answers in the order of the arrivals, and the seconds from the first request to the last answer.
    """
    gate = asyncio.Semaphore(load.max_concurrency or len(arrivals))
    begun = time.perf_counter()

    async def one(arrival: Arrival) -> Answer:
        wait_s = begun + arrival.at_s - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        async with gate:
            answer = await ask(target, body_of(load, arrival))
        on_answer(answer)
        return answer

    answers = await asyncio.gather(*(one(arrival) for arrival in arrivals))
    return list(answers), time.perf_counter() - begun


def times_ms(answers: Sequence[Answer]) -> dict[str, list[float]]:
    """Milliseconds of each metric over the answers that succeeded.

    ttft: request to first text. tpot: (last - first) / (tokens - 1), for answers of at least two tokens. itl: each gap
    between events that carry text. e2el: request to last text.
    """
    good = [answer for answer in answers if not answer.error]
    return {
        "ttft": [_ttft_ms(answer) for answer in good],
        "tpot": [_tpot_ms(answer) for answer in good if answer.num_output_tokens > 1],
        "itl": [gap * 1e3 for answer in good for gap in answer.gaps_s],
        "e2el": [_e2el_ms(answer) for answer in good],
    }


def report(
    answers: Sequence[Answer],
    duration_s: float,
    *,
    goals: Sequence[Goal] = (),
    metrics: Sequence[str] = METRICS,
    percentiles: Sequence[float] = (99.0,),
) -> dict[str, object]:
    """The result's figures under the field's keys; who asked what is added by the caller.

    Raises: ConfigError for a metric nobody knows.
    """
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown:
        raise ConfigError(f"There is no metric {unknown[0]!r}; there are {', '.join(METRICS)}.")
    good = [answer for answer in answers if not answer.error]
    num_in = sum(answer.num_prompt_tokens for answer in good)
    num_out = sum(answer.num_output_tokens for answer in good)
    result: dict[str, object] = {
        "duration": duration_s,
        "completed": len(good),
        "failed": len(answers) - len(good),
        "total_input_tokens": num_in,
        "total_output_tokens": num_out,
        "request_throughput": len(good) / duration_s,
        "request_goodput": sum(_is_good(answer, goals) for answer in good) / duration_s if goals else None,
        "output_throughput": num_out / duration_s,
        "total_token_throughput": (num_in + num_out) / duration_s,
        "max_output_tokens_per_s": _peak_tokens(good),
        "max_concurrent_requests": _peak_requests(good),
    }
    values = times_ms(answers)
    for metric in metrics:
        summary = summarize(values[metric], percentiles)
        result[f"mean_{metric}_ms"] = summary.mean
        result[f"median_{metric}_ms"] = summary.median
        result[f"std_{metric}_ms"] = summary.std
        for p, value in summary.percentiles:
            result[f"{name_of(p)}_{metric}_ms"] = value
    return result


def details(answers: Sequence[Answer]) -> dict[str, object]:
    """Each request's own figures, in seconds, in the order of the requests; for ``--save-detailed``."""
    return {
        "input_lens": [answer.num_prompt_tokens for answer in answers],
        "output_lens": [answer.num_output_tokens for answer in answers],
        "ttfts": [max(answer.first_s - answer.began_s, 0.0) for answer in answers],
        "itls": [answer.gaps_s for answer in answers],
        "generated_texts": [answer.text for answer in answers],
        "errors": [answer.error for answer in answers],
    }


def asked(load: Load, *, num_prompts: int, rate: float, burstiness: float, tokenizer: str | None) -> dict[str, object]:
    """What was asked, under the field's keys. A rate of infinity is written as the text "inf"."""
    return {
        "date": datetime.datetime.now().strftime("%Y%m%d-%H%M%S"),
        "backend": load.backend,
        "model_id": load.model,
        "tokenizer_id": tokenizer or load.model,
        "num_prompts": num_prompts,
        "request_rate": rate if rate != float("inf") else "inf",
        "burstiness": burstiness,
        "max_concurrency": load.max_concurrency,
    }


def lines(result: Mapping[str, object], metrics: Sequence[str], percentiles: Sequence[float]) -> list[tuple[str, str]]:
    """Name and figure, for people."""
    rows = [
        ("requests that succeeded", str(result["completed"])),
        ("requests that failed", str(result["failed"])),
        ("duration", f"{result['duration']:.2f} s"),
        ("prompt tokens", str(result["total_input_tokens"])),
        ("output tokens", str(result["total_output_tokens"])),
        ("requests a second", f"{result['request_throughput']:.2f}"),
        ("output tokens a second", f"{result['output_throughput']:.1f}"),
        ("all tokens a second", f"{result['total_token_throughput']:.1f}"),
        ("most output tokens in a second", f"{result['max_output_tokens_per_s']:.0f}"),
        ("most requests at once", str(result["max_concurrent_requests"])),
    ]
    if "client_cpu_s" in result and isinstance(result["duration"], float) and isinstance(result["client_cpu_s"], float):
        rows.append(("of a core, this client", f"{100 * result['client_cpu_s'] / result['duration']:.0f} %"))
    if result.get("request_goodput") is not None:
        rows.insert(6, ("good requests a second", f"{result['request_goodput']:.2f}"))
    for metric in metrics:
        for key in ("mean", "median", "std", *(name_of(p) for p in percentiles)):
            rows.append((f"{metric} {key}", f"{result[f'{key}_{metric}_ms']:.2f} ms"))
    return rows


def _ttft_ms(answer: Answer) -> float:
    return (answer.first_s - answer.began_s) * 1e3


def _tpot_ms(answer: Answer) -> float:
    num_gaps = answer.num_output_tokens - 1
    return (answer.last_s - answer.first_s) / num_gaps * 1e3 if num_gaps > 0 else 0.0


def _e2el_ms(answer: Answer) -> float:
    return (answer.last_s - answer.began_s) * 1e3


def _is_good(answer: Answer, goals: Sequence[Goal]) -> bool:
    found = {"ttft": _ttft_ms, "tpot": _tpot_ms, "e2el": _e2el_ms}
    return all(found[goal.metric](answer) <= goal.limit_ms for goal in goals)


def _peak_tokens(answers: Sequence[Answer]) -> float:
    """The most output tokens in one second; an answer's tokens are spread evenly over its events."""
    if not answers:
        return 0.0
    origin = min(answer.began_s for answer in answers)
    seconds: dict[int, float] = {}
    for answer in answers:
        share = answer.num_output_tokens / (len(answer.gaps_s) + 1)
        at_s = answer.first_s
        for gap in (0.0, *answer.gaps_s):
            at_s += gap
            seconds[int(at_s - origin)] = seconds.get(int(at_s - origin), 0.0) + share
    return max(seconds.values())


def _peak_requests(answers: Sequence[Answer]) -> int:
    """The most requests that were under way at one moment."""
    marks = sorted([(answer.began_s, 1) for answer in answers] + [(answer.ended_s, -1) for answer in answers])
    now = most = 0
    for _, change in marks:
        now += change
        most = max(most, now)
    return most
