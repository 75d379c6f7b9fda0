"""Engines in their own processes, and the rounds of jobs that they are given in turn.

Not here: which parts there are (parts.py), the engines (``*_peer.py``), servers (serving.py), scores (scores.py).
Door: Race.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.lineup import Racer
from benchmarks.peers.parts import WARM_UPS, Part
from benchmarks.peers.peer_process import PeerProcess
from benchmarks.peers.process_group import PeerFailed, clear_cache
from benchmarks.peers.scores import EngineFacts, Failure, Reading
from quire.bench.jobs import counts_prompts, name_of
from quire.bench.offline import Batch

ROOT = Path(__file__).parents[2]


def say(text: str) -> None:
    """A line for people, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def peer_environment(racers: dict[str, str]) -> dict[str, str]:
    """The environment of an engine's process: this one's, quiet and offline, with the engine's own variables."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **racers}
    environment.pop("OMP_NUM_THREADS", None)  # each engine decides from --num-threads or by itself
    environment["PYTHONPATH"] = str(ROOT)
    return environment


class Race:
    """The racers that are still in one part, what they did, and who failed at what."""

    def __init__(
        self, part: Part, racers: Sequence[Racer], command: Sequence[str], logs: Path, timeout_s: float
    ) -> None:
        self._part, self._racers, self._command = part, list(racers), list(command)
        self._logs, self._timeout_s = logs, timeout_s
        self._processes: dict[str, PeerProcess] = {}
        self._starts: dict[str, list[float]] = {}
        self._facts: dict[str, EngineFacts] = {}
        self.readings: list[Reading] = []
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
                say(f"{racer.name} {process.ready.version}: first token after {process.start_s:.2f} s")
                if number + 1 == num_starts:
                    self._weigh(racer.name)

    def warm_up(self, vocab_size: int) -> None:
        """Short jobs that are not counted."""
        for number, batch in enumerate(WARM_UPS):
            for racer in self._racers:
                self._ask(racer, batch, _prompts(batch, vocab_size, f"warm-up {number}"), number)

    def round(self, number: int, batches: Sequence[Batch], vocab_size: int) -> None:
        """Each job to each racer; the first in line moves with the round."""
        turn = number % max(1, len(self._racers))
        for batch in batches:
            prompts = _prompts(batch, vocab_size, f"round {number}")
            for racer in [*self._racers[turn:], *self._racers[:turn]]:
                self._measure(racer, batch, prompts, number)

    def one_by_one(self, batches: Sequence[Batch], vocab_size: int) -> None:
        """Each racer alone: started, warmed up, given all jobs as far as its time lasts, ended."""
        everybody = self._racers
        for racer in everybody:
            self._racers = [racer]
            self.start(1)
            self.warm_up(vocab_size)
            begun = time.monotonic()
            for batch in batches:
                left_s = self._part.box_s - (time.monotonic() - begun)
                if self._part.box_s and self._guess(racer.name, batch) > left_s:
                    self._leave_out(racer.name, batch)
                else:
                    self._measure(racer, batch, _prompts(batch, vocab_size, "round 0"), 0)
            self._end(racer.name)
        self._racers = everybody

    def end(self) -> None:
        """End every process."""
        for name in list(self._processes):
            self._end(name)

    def _start(self, racer: Racer) -> bool:
        try:
            if racer.missing():
                raise PeerFailed(f"{Path(racer.missing()).name} is missing; benchmarks/peers/setup.sh makes it")
            process = self._process(racer)
        except PeerFailed as error:
            self._out(racer, "start", error)
            return False
        self._processes[racer.name] = process
        self._starts.setdefault(racer.name, []).append(process.start_s)
        return True

    def _process(self, racer: Racer) -> PeerProcess:
        """Its process; a second try if the first fails and there was a cache that may be the reason."""
        command = [str(racer.python), "-m", f"benchmarks.peers.{racer.module}", str(racer.model)]
        command += ["--form", racer.form, *self._command]
        environment = peer_environment(dict(racer.environment))
        log = self._logs / f"{racer.name}.log"
        try:
            return PeerProcess(command, environment, log, self._timeout_s)
        except PeerFailed as error:
            if not clear_cache(environment, racer.cache_variable, log):
                raise
            say(f"{racer.name}: {error}; once more, with its cache emptied")
            log.rename(log.with_suffix(".first.log"))
            return PeerProcess(command, environment, log, self._timeout_s)

    def _measure(self, racer: Racer, batch: Batch, prompts: Sequence[Sequence[int]], number: int) -> None:
        reading = self._ask(racer, batch, prompts, number)
        if reading is not None:
            self.readings.append(reading)
            self._weigh(racer.name)
            say(f"round {number + 1}: {reading.job}: {racer.name} {reading.value:.1f} {reading.unit}")

    def _ask(self, racer: Racer, batch: Batch, prompts: Sequence[Sequence[int]], number: int) -> Reading | None:
        process = self._processes.get(racer.name)
        if process is None:
            return None
        asked = prompts[: racer.most_prompts or None]
        try:
            answer = process.run(asked, batch.output_len)
        except PeerFailed as error:
            self._out(racer, name_of(batch), error)
            return None
        is_prompt_job = counts_prompts(batch)
        tokens = len(asked) * (batch.input_len if is_prompt_job else batch.output_len)
        return Reading(
            racer=racer.name,
            job=name_of(batch),
            unit="prompt tokens/s" if is_prompt_job else "output tokens/s",
            value=tokens / answer.seconds,
            round=number,
            num_requests=batch.num_prompts,
            num_run=len(asked),
            first_tokens=tuple(ids[0] for ids in answer.outputs),
        )

    def _guess(self, name: str, batch: Batch) -> float:
        """Seconds that the job takes at the racer's latest rate; more requests at once are seldom slower."""
        mine = [one for one in self.readings if one.racer == name]
        return batch.num_output_tokens / mine[-1].value if mine else 0.0

    def _leave_out(self, name: str, batch: Batch) -> None:
        if name in self._processes:
            why = f"it would end later than {self._part.box_s:.0f} s after its first job"
            self.failures.append(Failure(name, name_of(batch), why, is_left_out=True))
            say(f"{name}: {name_of(batch)} is left out: {why}")

    def _out(self, racer: Racer, job: str, error: PeerFailed) -> None:
        """It takes no further part: an engine that failed may be in any state."""
        self._end(racer.name)
        self.failures.append(Failure(racer.name, job, str(error).replace(f"{ROOT}/", "")))
        say(f"{racer.name} is out, at {job}: {error}")

    def _weigh(self, name: str) -> None:
        process, known = self._processes[name], self._facts.get(name)
        resident_mb = max(process.memory_mb(), known.resident_mb if known else 0.0)
        ready = process.ready
        self._facts[name] = EngineFacts(
            name, ready.version, ready.settings, tuple(self._starts[name]), process.start_mb, resident_mb
        )

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.end()


def _prompts(batch: Batch, vocab_size: int, seed: str) -> list[list[int]]:
    chance = random.Random(f"{seed}: {name_of(batch)}")
    return [[chance.randrange(vocab_size) for _ in range(batch.input_len)] for _ in range(batch.num_prompts)]
