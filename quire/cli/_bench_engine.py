"""``quire bench latency`` and ``quire bench throughput``: an engine in this process is timed.

Not here: the timing (quire/bench/offline.py), the peers' jobs (quire/bench/jobs.py).
Door: latency, throughput.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec

import quire.bench
from quire.bench.jobs import PEER_JOBS, JobFigure, ModelCost, ceiling, measure_start, name_of, run_job
from quire.bench.latency import measure_latency
from quire.bench.limits import Limits, measure_limits
from quire.bench.offline import Batch
from quire.bench.report import append_lines, machine, table
from quire.bench.throughput import measure_throughput
from quire.cli._arguments import Parser
from quire.cli._counts import count, count_or_zero
from quire.config.asked import ENGINE_SLICES, EngineOptions, all_options, engine_options
from quire.config.card import Card
from quire.config.decide_quantization import scheme_of
from quire.config.decided import DType
from quire.config.fit import ELEMENT_BYTES, weight_bytes
from quire.config.flags import read_command_line
from quire.config.quantization import Scheme
from quire.config.resolve import resolve_engine
from quire.errors import ConfigError
from quire.llm import LLM

PEERS_SHAPE = Path(quire.bench.__file__).parent / "shapes" / "qwen3-0.6b"
"""A config.json alone: the shapes on which engines are compared. Its weights are random."""


class Engine:
    """An engine as the flags want it, above the benchmark's own ``defaults``.

    Prefix caching is off unless asked for, so that every prompt is computed.
    """

    def __init__(self, prog: str, arguments: Sequence[str], **defaults: object) -> None:
        asked = _asked_for(read_command_line(arguments, prog=prog, takes_server=False).engine)
        if "model" in asked:
            defaults.pop("load_format", None)  # random weights are for the benchmark's own model
        self.options: dict[str, object] = {"enable_prefix_caching": False, **defaults, **asked}
        self._settings = {name: value for name, value in self.options.items() if name != "model"}

    def load(self) -> LLM:
        """The engine, ready."""
        return LLM(str(self.options.get("model", "folio")), **self._settings)

    def facts(self) -> tuple[Card, DType, Scheme | None]:
        """The model's card, the type of its weights and how they are quantised, without loading it."""
        decided = resolve_engine(engine_options(**self.options), "llm")
        return decided.card, decided.worker.dtype, scheme_of(decided.worker.quantization)


def latency(arguments: Sequence[str]) -> int:
    """``quire bench latency``: one batch, again and again."""
    about = "How long one batch takes. Flags of the engine are taken too."
    parser = Parser(prog="quire bench latency", description=about, allow_abbrev=False)
    parser.add_argument("--input-len", type=count, default=32, help="tokens of each prompt (%(default)s)")
    parser.add_argument("--output-len", type=count, default=128, help="tokens of each output (%(default)s)")
    parser.add_argument("--batch-size", type=count, default=8, help="prompts in the batch (%(default)s)")
    parser.add_argument("--n", type=count, default=1, help="outputs of each prompt (%(default)s)")
    parser.add_argument("--num-iters-warmup", type=count_or_zero, default=10, help="runs that are not counted (10)")
    parser.add_argument("--num-iters", type=count, default=30, help="runs that are counted (%(default)s)")
    _add_output(parser)
    args, rest = parser.parse_known_args(arguments)
    engine = Engine("quire bench latency", rest)
    card, *_ = engine.facts()
    found = measure_latency(
        engine.load(),
        Batch(args.batch_size, args.input_len, args.output_len, args.n),
        vocab_size=card.vocab_size,
        num_warmups=args.num_iters_warmup,
        num_iterations=args.num_iters,
        detokenize=not args.disable_detokenize,
    )
    rows = [("mean", f"{found.avg_latency:.4f}")]
    rows += [(f"p{p}", f"{value:.4f}") for p, value in found.percentiles.items()]
    print(table(("latency of a batch", "seconds"), rows))
    _write(args.output_json, found)
    return 0


def throughput(arguments: Sequence[str]) -> int:
    """``quire bench throughput``: everything at once; or the jobs of the peers."""
    about = "Tokens a second when everything is asked at once. Flags of the engine are taken too."
    parser = Parser(prog="quire bench throughput", description=about, allow_abbrev=False)
    parser.add_argument("--input-len", type=count, default=1024, help="tokens of each prompt (%(default)s)")
    parser.add_argument("--output-len", type=count, default=128, help="tokens of each output (%(default)s)")
    parser.add_argument("--num-prompts", type=count, default=1000, help="prompts (%(default)s)")
    parser.add_argument("--n", type=count, default=1, help="outputs of each prompt (%(default)s)")
    parser.add_argument("--jobs", choices=("peers",), help="run these jobs instead; lengths and numbers are theirs")
    parser.add_argument("--repeat", type=count, default=3, help="counted runs of each job (%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="JOB", help="only these, such as '8 x 128 + 64' or start")
    _add_output(parser)
    args, rest = parser.parse_known_args(arguments)
    if args.jobs:
        return _peers(args, rest)
    engine = Engine("quire bench throughput", rest)
    card, *_ = engine.facts()
    found = measure_throughput(
        engine.load(),
        Batch(args.num_prompts, args.input_len, args.output_len, args.n),
        vocab_size=card.vocab_size,
        detokenize=not args.disable_detokenize,
    )
    rows = [
        ("seconds", f"{found.elapsed_time:.2f}"),
        ("requests/s", f"{found.requests_per_second:.2f}"),
        ("output tokens/s", f"{found.output_tokens_per_second:.1f}"),
        ("all tokens/s", f"{found.tokens_per_second:.1f}"),
    ]
    print(table(("throughput", "value"), rows))
    _write(args.output_json, found)
    return 0


def _peers(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """The machine's limits, each job, the start, and the limits again: only figures of one run compare."""
    names = [*(name_of(batch) for batch in PEER_JOBS), "start"]
    wanted = _wanted(names, args.only)
    engine = Engine(
        "quire bench throughput",
        rest,
        model=str(PEERS_SHAPE),
        load_format="dummy",
        skip_tokenizer_init=True,
        max_model_len=2048,
        max_num_seqs=64,
    )
    card, dtype, scheme = engine.facts()
    before = measure_limits()
    _say_limits("before", before)
    cost = _cost(card, dtype, scheme)
    llm = engine.load() if any(name != "start" for name in wanted) else None
    figures = []
    for batch in PEER_JOBS:
        if name_of(batch) in wanted and llm is not None:
            limit = ceiling(batch, cost, before, is_bf16=dtype == "bfloat16")
            figures.append(run_job(llm, batch, vocab_size=card.vocab_size, repeat=args.repeat, ceiling=limit))
            _say_figure(figures[-1])
    del llm
    if "start" in wanted:
        figures.append(measure_start(engine.options, repeat=args.repeat))
        _say_figure(figures[-1])
    after = measure_limits()
    _say_limits("after", after)
    print()
    print(table(("job", "figure", "unit", "lowest", "highest", "of the limit"), [_row(figure) for figure in figures]))
    if args.output_json:
        settings = {name: value for name, value in engine.options.items() if name != "model"}
        about = {"model": card.architecture, "dtype": dtype, "parameters": card.num_parameters, "options": settings}
        head: dict[str, object] = {"machine": machine(), "limits_before": before, "limits_after": after, **about}
        append_lines(args.output_json, [head, *figures])
    return 0


def _wanted(names: Sequence[str], only: Sequence[str] | None) -> list[str]:
    plain = {name.replace(" ", ""): name for name in names}
    asked = [one.replace(" ", "") for one in only or names]
    wrong = [one for one in asked if one not in plain]
    if wrong:
        raise ConfigError(f"There is no job {wrong[0]!r}; there are: {', '.join(names)}.")
    return [plain[one] for one in asked]


def _cost(card: Card, dtype: DType, scheme: Scheme | None = None) -> ModelCost:
    """The weights that a token multiplies: all but the embedding table, unless that is the head too."""
    table_size = card.vocab_size * card.hidden_size
    body = card.num_parameters - table_size * (1 if card.ties_embeddings else 2)
    unread = 0 if card.ties_embeddings else table_size * ELEMENT_BYTES[dtype]
    return ModelCost(weight_bytes(card, dtype, scheme) - unread, 2.0 * body, 2.0 * table_size)


def _asked_for(asked: EngineOptions) -> dict[str, object]:
    """What the flags gave, as arguments of ``LLM``."""
    options = all_options(ENGINE_SLICES)
    return {one.name: getattr(getattr(asked, group), one.name) for group, one in options if asked.is_asked(one.name)}


def _add_output(parser: Parser) -> None:
    parser.add_argument("--disable-detokenize", action="store_true", help="token ids only: leave text out of the time")
    parser.add_argument("--output-json", metavar="FILE", help="add the figures to this file, as lines of JSON")


def _write(path: str | None, record: msgspec.Struct) -> None:
    if path:
        append_lines(path, [record])


def _say_limits(when: str, limits: Limits) -> None:
    print(
        f"machine {when}: {limits.read_gb_s} GB/s read, {limits.bf16_gflop_s:.0f} GFLOP/s bf16, "
        f"{limits.float32_gflop_s:.0f} GFLOP/s float32, {limits.num_threads} threads, torch {limits.torch}",
        flush=True,
    )


def _say_figure(figure: JobFigure) -> None:
    print(f"{figure.job}: {figure.value:.1f} {figure.unit}", flush=True)


def _row(figure: JobFigure) -> tuple[str, ...]:
    share = "-" if figure.ceiling is None else f"{100 * figure.value / figure.ceiling:.0f} %"
    value, low, high = (f"{number:.2f}" for number in (figure.value, min(figure.runs), max(figure.runs)))
    return (figure.job, value, figure.unit, low, high, share)
