"""``quire bench serve``: load on a server that speaks the OpenAI API.

Not here: the measuring (quire/bench/serve.py), prompts and their times (quire/bench/arrivals.py).
Door: serve.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec
import uvloop
from tqdm import tqdm

from quire.bench.arrivals import Arrival, RandomPrompts, draw_arrivals
from quire.bench.report import table
from quire.bench.serve import METRICS, Load, asked, details, lines, parse_goals, report, send_all
from quire.bench.stream import ENDPOINTS, Answer, Backend, Target
from quire.cli._arguments import Parser
from quire.cli._counts import count, count_or_zero
from quire.cli._remote import Remote, key_of_environment
from quire.errors import ConfigError


def serve(arguments: Sequence[str]) -> int:
    """Measure a server. Ends with 1 when no request succeeded."""
    args = _parser().parse_args(arguments)
    headers = _pairs("--header", args.header)
    api_key = key_of_environment()
    if api_key and "Authorization" not in headers:
        headers["Authorization"] = f"Bearer {api_key}"
    base_url = args.base_url or f"http://{args.host}:{args.port}"
    backend = cast(Backend, args.backend)
    target = Target.parse(base_url, args.endpoint or ENDPOINTS[backend], headers)
    model = args.served_model_name or args.model or _first_model(base_url, headers)
    load = Load(backend, model, _fields(args), args.max_concurrency)
    arrivals = draw_arrivals(
        RandomPrompts(
            input_len=args.input_len,
            output_len=args.output_len,
            range_ratio=args.random_range_ratio,
            prefix_len=args.random_prefix_len,
            vocab_size=args.vocab_size,
        ),
        num=args.num_prompts,
        rate=args.request_rate,
        burstiness=args.burstiness,
        seed=args.seed,
        as_text=backend == "openai-chat",
    )
    goals = parse_goals(args.goodput or ())
    metrics = [metric.strip() for metric in args.percentile_metrics.split(",")]
    percentiles = _percentiles(args.metric_percentiles)
    report([], 1.0, metrics=metrics)  # a wrong metric is refused before anything is sent
    answers, duration_s, cpu_s = uvloop.run(_measure(target, load, arrivals, args.num_warmups, args.disable_tqdm))
    result = asked(
        load, num_prompts=args.num_prompts, rate=args.request_rate, burstiness=args.burstiness, tokenizer=args.tokenizer
    )
    result |= _pairs("--metadata", args.metadata)
    result |= report(answers, duration_s, goals=goals, metrics=metrics, percentiles=percentiles)
    result["client_cpu_s"] = cpu_s
    print(table(("load on a server", model), lines(result, metrics, percentiles)))
    failures = [answer.error for answer in answers if answer.error]
    if failures:
        print(f"\n{len(failures)} requests failed; the first: {failures[0]}")
    _save(args, {**result, **(details(answers) if args.save_detailed else {})})
    return 0 if len(failures) < len(answers) else 1


async def _measure(
    target: Target, load: Load, arrivals: Sequence[Arrival], num_warmups: int, is_quiet: bool
) -> tuple[list[Answer], float, float]:
    """A request alone first: a server that cannot answer is found out at once, and what it does once is not counted.

    The answers, the seconds they took, and the seconds of a core that this client took meanwhile.
    """
    for _ in range(max(num_warmups, 1)):
        (first,), _ = await send_all(target, load, [Arrival(0.0, arrivals[0].prompt, arrivals[0].output_len)])
        if first.error:
            raise ConfigError(f"A first request failed, so nothing was measured: {first.error}")
    with tqdm(total=len(arrivals), unit="request", disable=True if is_quiet else None) as bar:

        def on_answer(_: Answer) -> None:
            bar.update()

        cpu_s = time.process_time()
        answers, duration_s = await send_all(target, load, arrivals, on_answer=on_answer)
        return answers, duration_s, time.process_time() - cpu_s


def _parser() -> Parser:
    about = "Load on a server that speaks the OpenAI API, with random prompts."
    parser = Parser(prog="quire bench serve", description=about, allow_abbrev=False)
    where = parser.add_argument_group("server")
    where.add_argument("--backend", choices=("openai", "openai-chat"), default="openai", help="completions or chat")
    where.add_argument("--base-url", metavar="URL", help="such as http://127.0.0.1:8000, instead of --host and --port")
    where.add_argument("--host", default="127.0.0.1", help="(%(default)s)")
    where.add_argument("--port", type=count, default=8000, help="(%(default)s)")
    where.add_argument("--endpoint", metavar="PATH", help="else the backend's: " + ", ".join(ENDPOINTS.values()))
    where.add_argument("--header", nargs="+", metavar="NAME=VALUE", help="added to each request")
    where.add_argument("--model", metavar="NAME", help="else the server's first")
    where.add_argument("--served-model-name", metavar="NAME", help="the name in requests, when not --model")
    where.add_argument("--tokenizer", metavar="NAME", help="only written into the result")

    what = parser.add_argument_group("prompts")
    what.add_argument("--dataset-name", choices=("random",), default="random", help="(%(default)s)")
    what.add_argument("--num-prompts", type=count, default=1000, help="requests (%(default)s)")
    what.add_argument("--input-len", "--random-input-len", type=count, default=1024, help="tokens (%(default)s)")
    what.add_argument("--output-len", "--random-output-len", type=count, default=128, help="tokens (%(default)s)")
    what.add_argument("--random-range-ratio", type=float, default=0.0, metavar="R", help="lengths vary by +-R (0)")
    what.add_argument("--random-prefix-len", type=count_or_zero, default=0, help="shared tokens at the start (0)")
    what.add_argument("--vocab-size", type=count, default=1000, help="ids are drawn below this (%(default)s)")
    what.add_argument("--seed", type=int, default=0, help="equal seeds, equal load (%(default)s)")
    what.add_argument("--ignore-eos", action=argparse.BooleanOptionalAction, default=True, help="always --output-len")
    for name, kind in (("temperature", float), ("top-p", float), ("top-k", int), ("min-p", float)):
        what.add_argument(f"--{name}", type=kind, help="in each request" + (" (0)" if name == "temperature" else ""))
    for name in ("frequency-penalty", "presence-penalty", "repetition-penalty"):
        what.add_argument(f"--{name}", type=float, help="in each request")
    what.add_argument("--extra-body", metavar="JSON", help="further fields of each request")

    when = parser.add_argument_group("arrivals")
    when.add_argument("--request-rate", type=float, default=float("inf"), help="requests a second (inf: all at once)")
    when.add_argument("--burstiness", type=float, default=1.0, help="1: Poisson; below 1: in bursts (%(default)s)")
    when.add_argument("--max-concurrency", type=count, help="at most so many under way at once")
    when.add_argument("--num-warmups", type=count_or_zero, default=0, help="requests before the measuring (at least 1)")

    out = parser.add_argument_group("result")
    out.add_argument("--percentile-metrics", default=",".join(METRICS), help="which times (%(default)s)")
    out.add_argument("--metric-percentiles", default="99", metavar="P,P", help="which percentiles (%(default)s)")
    out.add_argument("--goodput", nargs="+", metavar="METRIC:MS", help="count requests within limits, e.g. ttft:200")
    out.add_argument("--save-result", action="store_true", help="write the result as JSON")
    out.add_argument("--save-detailed", action="store_true", help="and with each request's own times and text")
    out.add_argument("--append-result", action="store_true", help="add to the file instead of writing it anew")
    out.add_argument("--result-dir", metavar="DIR", help="where (here)")
    out.add_argument("--result-filename", metavar="FILE", help="else backend, rate, model and time")
    out.add_argument("--metadata", nargs="+", metavar="KEY=VALUE", help="added to the result")
    out.add_argument("--disable-tqdm", action="store_true", help="no progress bar")
    return parser


def _fields(args: argparse.Namespace) -> dict[str, object]:
    """The requests' sampling fields: what was given, and greedy unless something was."""
    names = ("temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty")
    fields: dict[str, object] = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    fields.setdefault("temperature", 0.0)
    if args.ignore_eos:
        fields["ignore_eos"] = True
    if args.extra_body:
        try:
            extra = json.loads(args.extra_body)
        except ValueError:
            extra = None
        if not isinstance(extra, dict):
            raise ConfigError(f"--extra-body takes a JSON object, not {args.extra_body[:80]!r}.")
        fields |= extra
    return fields


def _pairs(flag: str, texts: Sequence[str] | None) -> dict[str, str]:
    pairs = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"{flag} takes NAME=VALUE, not {text!r}.")
        pairs[name] = value
    return pairs


def _percentiles(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [-1.0]
    if not all(0 < p <= 100 for p in found):
        raise ConfigError(f"--metric-percentiles takes numbers above 0 and up to 100, as in 50,99; not {text!r}.")
    return found


def _first_model(base_url: str, headers: dict[str, str]) -> str:
    key = headers.get("Authorization", "").removeprefix("Bearer ")
    with Remote(base_url.rstrip("/") + "/v1", key or None) as remote:
        return remote.first_model()


def _save(args: argparse.Namespace, result: dict[str, object]) -> None:
    if not (args.save_result or args.save_detailed or args.append_result):
        return
    model = str(result["model_id"]).rsplit("/", 1)[-1]
    rate = "inf" if result["request_rate"] == "inf" else f"{args.request_rate:g}"
    name = args.result_filename or f"{args.backend}-{rate}qps-{model}-{result['date']}.json"
    path = Path(args.result_dir or ".") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab" if args.append_result else "wb") as file:
        file.write(msgspec.json.encode(result) + b"\n")
    print(f"\nThe result is in {path}.")
