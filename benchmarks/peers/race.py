"""Race Quire against other engines on this machine: ``python -m benchmarks.peers.race``.

    bash benchmarks/peers/setup.sh                                      # once: environments, checkpoint, conversions
    .venv/bin/python -m benchmarks.peers.race                           # three rounds, about a quarter of an hour
    .venv/bin/python -m benchmarks.peers.race --jobs 128x128+64 --peers quire openvino --rounds 1
    .venv/bin/python -m benchmarks.peers.race --only start --rounds 3   # only how long each takes to its first token

Every engine loads the same checkpoint once, in a process of its own, and is held still while another computes. Then
each round gives each job to each engine in turn, the same prompts to all, starting with another engine each round. The
machine's limits are measured before, between and after the rounds: if they moved, something else was running.

Not here: what the figures mean (scores.py, benchmarks/README.md), the engines (``*_peer.py``).
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks.peers.lineup import BF16_RACERS, Racer, line_up
from benchmarks.peers.peer_process import PeerFailed, PeerProcess
from benchmarks.peers.scores import EngineFacts, Failure, Run, Score, score, standings
from quire.bench.figures import percentile
from quire.bench.jobs import PEER_JOBS, ModelCost, ceiling, name_of
from quire.bench.limits import Limits, measure_limits
from quire.bench.offline import Batch
from quire.bench.report import append_lines, machine
from quire.config.card import Card, read_card
from quire.errors import ConfigError

ROOT = Path(__file__).parents[2]
WARM_UPS = (Batch(8, 128, 8), Batch(1, 1024, 1))


class Race:
    """The racers that are still in it, what they did, and who failed at what."""

    def __init__(self, racers: Sequence[Racer], command: Sequence[str], logs: Path, timeout_s: float) -> None:
        self._racers, self._command, self._logs, self._timeout_s = list(racers), list(command), logs, timeout_s
        self._processes: dict[str, PeerProcess] = {}
        self._starts: dict[str, list[float]] = {}
        self._facts: dict[str, EngineFacts] = {}
        self.runs: list[Run] = []
        self.failures: list[Failure] = []

    @property
    def facts(self) -> list[EngineFacts]:
        return list(self._facts.values())

    def start(self, num_starts: int) -> None:
        """Start each racer so often, one after the other; the last process stays."""
        for racer in self._racers:
            for number in range(num_starts):
                self._end(racer.name)
                if not self._start(racer):
                    break
                process = self._processes[racer.name]
                _say(f"{racer.name} {process.ready.version}: first token after {process.start_s:.2f} s")
                if number + 1 == num_starts:
                    self._weigh(racer.name)

    def warm_up(self, vocab_size: int) -> None:
        """Short jobs that are not counted."""
        for number, batch in enumerate(WARM_UPS):
            for racer in self._racers:
                self._ask(racer, batch, _prompts(batch, vocab_size, seed=-1 - number))

    def round(self, number: int, batches: Sequence[Batch], vocab_size: int) -> None:
        """Each job to each racer; the first in line moves with the round."""
        turn = number % max(1, len(self._racers))
        for place, batch in enumerate(batches):
            prompts = _prompts(batch, vocab_size, seed=1000 * number + place)
            for racer in [*self._racers[turn:], *self._racers[:turn]]:
                run = self._ask(racer, batch, prompts)
                if run is not None:
                    self.runs.append(run)
                    self._weigh(racer.name)
                    _say(f"round {number + 1}: {name_of(batch)}: {racer.name} {run.rate:.1f} tokens/s")

    def end(self) -> None:
        """End every process."""
        for racer in self._racers:
            self._end(racer.name)

    def _start(self, racer: Racer) -> bool:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **racer.environment}
        environment.pop("OMP_NUM_THREADS", None)  # each engine decides from --num-threads or by itself
        environment["PYTHONPATH"] = str(ROOT)
        command = [str(racer.python), "-m", f"benchmarks.peers.{racer.module}", str(racer.model)]
        command += ["--form", racer.form, *self._command]
        try:
            if racer.missing():
                raise PeerFailed(f"{Path(racer.missing()).name} is missing; benchmarks/peers/setup.sh makes it")
            log = self._logs / f"{racer.name}.log"
            process = PeerProcess(command, environment, log, self._timeout_s)
        except PeerFailed as error:
            self._out(racer, "start", error)
            return False
        self._processes[racer.name] = process
        self._starts.setdefault(racer.name, []).append(process.start_s)
        return True

    def _ask(self, racer: Racer, batch: Batch, prompts: Sequence[Sequence[int]]) -> Run | None:
        process = self._processes.get(racer.name)
        if process is None:
            return None
        try:
            answer = process.run(prompts, batch.output_len)
        except PeerFailed as error:
            self._out(racer, name_of(batch), error)
            return None
        return Run(racer.name, batch, answer.seconds, tuple(ids[0] for ids in answer.outputs))

    def _out(self, racer: Racer, job: str, error: PeerFailed) -> None:
        """It takes no further part: an engine that failed may be in any state."""
        self._end(racer.name)
        self.failures.append(Failure(racer.name, job, str(error).replace(f"{ROOT}/", "")))
        _say(f"{racer.name} is out, at {job}: {error}")

    def _weigh(self, name: str) -> None:
        process, known = self._processes[name], self._facts.get(name)
        resident_mb = max(process.memory_mb(), known.resident_mb if known else 0.0)
        ready = process.ready
        self._facts[name] = EngineFacts(name, ready.version, ready.settings, tuple(self._starts[name]), resident_mb)

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.end()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; see the module's text."""
    args = _parse(arguments)
    batches, with_jobs = _jobs(args.jobs, args.only)
    racers = _racers(args)
    card = read_card(args.model)
    num_threads = args.num_threads or len(os.sched_getaffinity(0))
    most = max((batch.num_prompts for batch in batches), default=1)
    longest = max(batch.input_len + batch.output_len for batch in (*batches, *WARM_UPS))
    sizes = {"--num-threads": num_threads, "--max-num-seqs": max(most, 8), "--max-model-len": max(longest, 2048)}
    command = [word for flag, value in sizes.items() for word in (flag, str(value))]
    race = Race(racers, command, args.folder / "logs", args.timeout)
    limits = [_limits(num_threads)] if with_jobs else []
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or engines that are held still would outlive the race
    try:
        race.start(1 if with_jobs else args.rounds)
        if with_jobs:
            race.warm_up(card.vocab_size)
        for number in range(args.rounds if with_jobs else 0):
            race.round(number, batches, card.vocab_size)
            limits.append(_limits(num_threads))
    except KeyboardInterrupt:
        _say("stopped; what follows is of the rounds so far")
    finally:
        race.end()
    ceilings = _ceilings(batches, card, limits)
    quires = [racer.name for racer in racers if racer.is_quire]
    scores = score(race.runs, {racer.name: racer.bits for racer in racers}, quires, ceilings)
    print(f"\n{standings(scores, race.facts)}\n")
    _warn_if_moved(limits)
    head: dict[str, object] = {
        "machine": machine(),
        "limits": limits,
        "model": {"architecture": card.architecture, "parameters": card.num_parameters, "layers": card.num_layers},
        "rounds": args.rounds,
        "num_threads": num_threads,
    }
    _keep(args, [head, *race.facts, *scores, *race.failures], scores)
    return 1 if race.failures else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.race",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    scratch = ROOT / "benchmarks" / ".scratch"
    parser.add_argument("--peers", nargs="+", metavar="ENGINE", default=list(BF16_RACERS), help="who races, Quire too")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each job and engine (%(default)s)")
    parser.add_argument("--jobs", nargs="+", metavar="NxP+O", help="these jobs instead of the six, such as 128x128+64")
    parser.add_argument("--only", nargs="+", metavar="JOB", help="of the jobs only these; start alone: no job at all")
    parser.add_argument("--folder", type=Path, default=scratch / "peers", help="what setup.sh filled")
    parser.add_argument("--model", type=Path, default=scratch / "qwen3-0.6b", help="the checkpoint that it converted")
    parser.add_argument("--num-threads", type=int, default=0, help="of each engine; as many as cores unless given")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for a start or a job (%(default)s)")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="where figures are kept")
    args = parser.parse_args(arguments)
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    return args


def parse_job(text: str) -> Batch:
    """``8x128+64``, with spaces or not: 8 prompts of 128 tokens, each continued by 64.

    Raises: ConfigError for another form or a number that is 0.
    """
    found = re.fullmatch(r"(\d+)x(\d+)\+(\d+)", text.replace(" ", ""))
    numbers = [int(number) for number in found.groups()] if found else [0]
    if min(numbers) < 1:
        raise ConfigError(f"{text!r} is no job: write prompts x tokens + output tokens, such as 8x128+64.")
    return Batch(*numbers)


def _jobs(jobs: Sequence[str] | None, only: Sequence[str] | None) -> tuple[list[Batch], bool]:
    """The jobs, and whether there are any at all: ``--only start`` asks for none."""
    batches = [parse_job(text) for text in jobs] if jobs else list(PEER_JOBS)
    if not only:
        return batches, True
    wanted = [name_of(parse_job(text)) for text in only if text != "start"]
    known = [name_of(batch) for batch in batches]
    wrong = [name for name in wanted if name not in known]
    if wrong:
        raise ConfigError(f"There is no job {wrong[0]!r}; there are: {', '.join(known)} and start.")
    return [batch for batch in batches if name_of(batch) in wanted], bool(wanted)


def _racers(args: argparse.Namespace) -> list[Racer]:
    known = line_up(args.folder.absolute(), args.model.absolute(), Path(sys.executable))
    wrong = [name for name in args.peers if name not in known]
    if wrong:
        raise ConfigError(f"There is no engine {wrong[0]!r}; there are: {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(args.peers)]


def _prompts(batch: Batch, vocab_size: int, seed: int) -> list[list[int]]:
    chance = random.Random(seed)
    return [[chance.randrange(vocab_size) for _ in range(batch.input_len)] for _ in range(batch.num_prompts)]


def _limits(num_threads: int) -> Limits:
    found = measure_limits(num_threads)
    _say(f"machine: {found.read_gb_s:.1f} GB/s read, {found.bf16_gflop_s:.0f} GFLOP/s bf16")
    return found


def _ceilings(batches: Sequence[Batch], card: Card, limits: Sequence[Limits]) -> Mapping[str, float]:
    """The machine's limit for each job with bf16 weights, at the median of its measured limits."""
    if not limits:
        return {}
    head = card.vocab_size * card.hidden_size
    body = card.num_parameters - head * (1 if card.ties_embeddings else 2)  # the table itself multiplies nothing
    cost = ModelCost(2 * (body + head), 2.0 * body, 2.0 * head)
    middle = msgspec.structs.replace(
        limits[0],
        read_gb_s=percentile(sorted(one.read_gb_s for one in limits), 50),
        bf16_gflop_s=percentile(sorted(one.bf16_gflop_s for one in limits), 50),
    )
    return {name_of(batch): ceiling(batch, cost, middle, is_bf16=True) for batch in batches}


def _warn_if_moved(limits: Sequence[Limits]) -> None:
    for name in ("read_gb_s", "bf16_gflop_s"):
        values = [getattr(one, name) for one in limits]
        if values and max(values) > 1.1 * min(values):
            print(f"The machine was not quiet: {name} was from {min(values):.1f} to {max(values):.1f} during the race.")


def _keep(
    args: argparse.Namespace, records: Sequence[msgspec.Struct | dict[str, object]], scores: Sequence[Score]
) -> None:
    """Lines of JSON, and a plot where setup.sh made what draws it."""
    target = args.results / time.strftime("peers-%Y%m%d-%H%M%S.jsonl", time.gmtime())
    append_lines(str(target), records)
    print(f"figures: {target}")
    drawer = args.folder / "plot" / "bin" / "python"
    if not scores or not drawer.exists():
        return
    image = target.with_suffix(".png")
    done = subprocess.run(
        [str(drawer), "-m", "benchmarks.peers.plot", str(target), str(image)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"plot: {image}" if not done.returncode else f"no plot: {done.stderr.strip().splitlines()[-1:]}")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConfigError as error:
        sys.exit(f"error: {error}")
