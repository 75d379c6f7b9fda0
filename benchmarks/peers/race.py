"""Race Quire against other engines on this machine: ``python -m benchmarks.peers.race``.

    bash benchmarks/peers/setup.sh                                      # once: environments, checkpoints, conversions
    .venv/bin/python -m benchmarks.peers.race                           # every part; how long it takes is said first
    .venv/bin/python -m benchmarks.peers.race --parts jobs --rounds 2 --peers quire openvino
    .venv/bin/python -m benchmarks.peers.race --jobs 128x128+64 --rounds 1
    .venv/bin/python -m benchmarks.peers.race --only start --rounds 3   # only how long each takes to its first token

Parts: jobs (the peers' jobs in bf16), quantised (8 and 4 bits), generate (transformers, one request after the other),
curve (1 to 128 requests), serving (a tiny model over HTTP), poisson (the 0.6B shapes over HTTP). In each part every
engine is started anew, is held still while another computes, and has the same prompts as the others. The machine's
limits are measured before and after each round: if they moved, something else was running.

Not here: what is raced (parts.py), the rounds (rounds.py, serving.py), what the figures mean (scores.py, goals.toml).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from benchmarks.peers.goals import judge, read_goals
from benchmarks.peers.parts import OFFLINE, SERVED, WARM_UPS, limits_for
from benchmarks.peers.plan import Plan, make_plan
from benchmarks.peers.rounds import ROOT, Race, say
from benchmarks.peers.scores import EngineFacts, Failure, Reading, score
from benchmarks.peers.serving import ServedRun, ServingRace
from benchmarks.peers.standings import standings
from quire.bench.figures import percentile
from quire.bench.jobs import ModelCost, ceiling, name_of
from quire.bench.limits import Limits, measure_limits
from quire.bench.offline import Batch
from quire.bench.report import append_lines, machine
from quire.config.card import Card, read_card
from quire.errors import ConfigError


class Record:
    """All that a race found so far."""

    def __init__(self) -> None:
        self.limits: list[Limits] = []
        self.readings: list[Reading] = []
        self.failures: list[Failure] = []
        self.facts: list[EngineFacts] = []
        self.served: list[ServedRun] = []

    def measure_limits(self, num_threads: int) -> None:
        """The machine's limits, once more."""
        found = measure_limits(num_threads)
        rates = f"{found.bf16_gflop_s:.0f} GFLOP/s bf16, {found.int8_gop_s:.0f} GOP/s int8"
        say(f"machine: {found.read_gb_s:.1f} GB/s read, {rates}")
        self.limits.append(found)

    def middle(self) -> Limits:
        """The medians of the limits so far."""
        names = ("read_gb_s", "bf16_gflop_s", "float32_gflop_s", "int8_gop_s")
        medians = {name: percentile(sorted(getattr(one, name) for one in self.limits), 50) for name in names}
        return msgspec.structs.replace(self.limits[0], **medians)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; see the module's text."""
    args = _parse(arguments)
    plan = make_plan(args, Path(sys.executable))
    card = read_card(args.model)
    args.num_threads = args.num_threads or len(os.sched_getaffinity(0))
    record, was_stopped = Record(), False
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        record.measure_limits(args.num_threads)
        seconds = plan.seconds(_ceilings(plan.batches, card, record.middle()), with_cold=args.cold)
        for name, about_s in seconds.items():
            say(f"part {name}: about {about_s / 60:.1f} minutes")
        say(f"all: about {sum(seconds.values()) / 60:.0f} minutes")
        if not args.dry_run:
            _run(args, plan, card, record)
    except KeyboardInterrupt:
        say("stopped; what follows is of the jobs so far")
        was_stopped = True
    finally:
        if record.readings or record.facts or record.failures:
            _report(args, plan, card, record)
    return 1 if was_stopped or any(not one.is_left_out for one in record.failures) else 0


def _stop(_: int, __: object) -> None:
    """End the race in order, once: asked again meanwhile, engines that are held still would outlive it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _run(args: argparse.Namespace, plan: Plan, card: Card, record: Record) -> None:
    for name in plan.parts:
        if name in SERVED:
            _run_served(args, plan, name, record)
        else:
            _run_offline(args, plan, name, card, record)


def _run_offline(args: argparse.Namespace, plan: Plan, name: str, card: Card, record: Record) -> None:
    part = msgspec.structs.replace(OFFLINE[name], box_s=plan.boxes[name])
    batches, rounds = plan.offline[name], plan.rounds[name]
    sizes = (*batches, *WARM_UPS)
    most, longest = (max(batch.num_prompts for batch in sizes), max(one.input_len + one.output_len for one in sizes))
    command = ["--num-threads", str(args.num_threads), "--max-num-seqs", str(most)]
    command += ["--max-model-len", str(max(longest, 2048))]
    race = Race(part, plan.racers[name], command, args.folder / "logs", args.timeout)
    say(f"part {name}: {part.about}")
    try:
        if part.is_alone and batches:
            race.one_by_one(batches, card.vocab_size)
            record.measure_limits(args.num_threads)
            return
        race.start(1 if batches else rounds)
        if batches:
            race.warm_up(card.vocab_size)
        for number in range(rounds if batches else 0):
            race.round(number, batches, card.vocab_size)
            record.measure_limits(args.num_threads)
    finally:
        race.end()
        record.readings += race.readings
        record.failures += race.failures
        # The part "jobs" comes first and is the longest: its facts about an engine stand.
        known = {fact.racer for fact in record.facts}
        record.facts += [fact for fact in race.facts if fact.racer not in known]


def _run_served(args: argparse.Namespace, plan: Plan, name: str, record: Record) -> None:
    part, model = SERVED[name], plan.servers[name][0].model
    vocab_size = read_card(model).vocab_size if (model / "config.json").exists() else 1
    race = ServingRace(part, plan.servers[name], args.folder / "logs", args.timeout, vocab_size)
    say(f"part {name}: {part.about}")
    try:
        race.start(with_cold=args.cold)
        for number in range(plan.rounds[name]):
            race.round(number, plan.loads[name])
        record.measure_limits(args.num_threads)
    finally:
        race.weigh(sum(file.stat().st_size for file in model.glob("*.safetensors")) / 1e6)
        race.end()
        record.readings += race.readings
        record.failures += race.failures
        record.served += race.runs


def _ceilings(batches: Sequence[Batch], card: Card, limits: Limits) -> dict[tuple[int, str], float]:
    """The machine's limit for each form (bits a weight) and job."""
    head = card.vocab_size * card.hidden_size
    body = card.num_parameters - head * (1 if card.ties_embeddings else 2)  # the table itself multiplies nothing
    found: dict[tuple[int, str], float] = {}
    for bits in (16, 8, 4):
        weight_bytes, gflop_s = limits_for(bits, limits)
        cost = ModelCost(int(weight_bytes * (body + head)), 2.0 * body, 2.0 * head)
        here = msgspec.structs.replace(limits, bf16_gflop_s=gflop_s)
        found |= {(bits, name_of(batch)): ceiling(batch, cost, here, is_bf16=True) for batch in batches}
    return found


def _report(args: argparse.Namespace, plan: Plan, card: Card, record: Record) -> None:
    """Tables for people, lines of JSON, and a plot where setup.sh made what draws it."""
    bits = {racer.name: racer.bits for racers in plan.racers.values() for racer in racers}
    bits |= {server.name: 16 for several in plan.servers.values() for server in several}
    quires = [name for name in bits if name.split("-")[0] == "quire"]
    scores = score(record.readings, bits, quires, _ceilings(plan.batches, card, record.middle()))
    verdicts = judge(read_goals(), scores)
    print(f"\n{standings(scores, record.facts, record.served, verdicts, record.failures)}\n")
    _warn_if_moved(record.limits)
    head: dict[str, object] = {
        "machine": machine(),
        "limits": record.limits,
        "model": {"architecture": card.architecture, "parameters": card.num_parameters, "layers": card.num_layers},
        "parts": {name: plan.rounds[name] for name in plan.parts},
        "num_threads": args.num_threads,
        "with_cold_starts": args.cold,
    }
    target = args.results / time.strftime("peers-%Y%m%d-%H%M%S.jsonl", time.gmtime())
    append_lines(str(target), [head, *record.facts, *scores, *record.served, *verdicts, *record.failures])
    print(f"figures: {target}")
    drawer = args.folder / "plot" / "bin" / "python"
    if scores and drawer.exists():
        _draw(drawer, target)


def _draw(drawer: Path, target: Path) -> None:
    image = target.with_suffix(".png")
    command = [str(drawer), "-m", "benchmarks.peers.plot", str(target), str(image)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"no plot: {done.stderr.strip().splitlines()[-1:]}")
    elif image.exists():
        print(f"plot: {image}")


def _warn_if_moved(limits: Sequence[Limits]) -> None:
    for name in ("read_gb_s", "bf16_gflop_s", "int8_gop_s"):
        values = [getattr(one, name) for one in limits]
        if values and max(values) > 1.1 * min(values):
            print(f"The machine was not quiet: {name} was from {min(values):.1f} to {max(values):.1f} during the race.")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.race",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    scratch = ROOT / "benchmarks" / ".scratch"
    add: Callable[..., object] = parser.add_argument
    add("--parts", nargs="+", metavar="PART", choices=[*OFFLINE, *SERVED], help="these instead of all")
    add("--peers", nargs="+", metavar="ENGINE", help="who races, Quire too; else everybody that a part names")
    add(
        "--rounds",
        nargs="+",
        default=["3"],
        help="runs of each job and engine where a part does not say, PART=N too (3)",
    )
    add("--box", type=float, default=0.0, help="seconds for each engine's curve, if not four minutes")
    add("--jobs", nargs="+", metavar="NxP+O", help="these batches instead of a part's, such as 128x128+64")
    add("--only", nargs="+", metavar="JOB", help="of the jobs only these; start alone: no job at all")
    add("--no-cold", dest="cold", action="store_false", help="no cold starts of servers")
    add("--dry-run", action="store_true", help="only say how long it would take")
    add("--folder", type=Path, default=scratch / "peers", help="what setup.sh filled")
    add("--model", type=Path, default=scratch / "qwen3-0.6b", help="the checkpoint that it converted")
    add("--served", type=Path, default=scratch / "served", help="checkpoints with tokenizers, for the servers")
    add("--port", type=int, default=18070, help="of the first server; the next has the next (%(default)s)")
    add("--num-threads", type=int, default=0, help="of each engine; as many as cores unless given")
    add("--timeout", type=float, default=300.0, help="seconds for a start or a job (%(default)s)")
    add("--results", type=Path, default=ROOT / "benchmarks" / "results", help="where figures are kept")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConfigError as error:
        sys.exit(f"error: {error}")
