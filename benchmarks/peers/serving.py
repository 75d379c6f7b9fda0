"""Servers under load, in turn: how soon each is ready, cold and warm, what it holds in memory, how fast it answers.

A cold start has empty caches of its own programs and the checkpoint's files out of the page cache; the warm one follows
it and finds both. Then each round gives each load to each server in turn.

Not here: which loads (parts.py), a server's process (server_process.py), scores (scores.py).
Door: ServingRace, ServedRun.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from benchmarks.peers.lineup import Server
from benchmarks.peers.parts import Served, ServedJob
from benchmarks.peers.process_group import PeerFailed, clear_cache
from benchmarks.peers.rounds import ROOT, peer_environment, say
from benchmarks.peers.scores import Failure, Reading
from benchmarks.peers.server_process import ClientResult, ServerProcess, forget


class ServedRun(Struct, frozen=True, tag_field="record", tag="load"):
    """One load of one server in one round, with all that the client saw. ``rate``: requests a second; 0: no rate."""

    racer: str
    job: str
    round: int
    rate: float
    result: ClientResult


class ServingRace:
    """The servers that are still in one part, what they did, and who failed at what."""

    def __init__(self, part: Served, servers: Sequence[Server], logs: Path, timeout_s: float, vocab_size: int) -> None:
        self._part, self._servers, self._logs, self._timeout_s = part, list(servers), logs, timeout_s
        self._vocab_size = vocab_size
        self._processes: dict[str, ServerProcess] = {}
        self._ready_mb: dict[str, float] = {}
        self._most_mb: dict[str, float] = {}
        self._capacity = 0.0
        self.readings: list[Reading] = []
        self.runs: list[ServedRun] = []
        self.failures: list[Failure] = []

    def start(self, *, with_cold: bool) -> None:
        """Start each server, cold (if asked) and then warm; the last process stays, held still."""
        for server in self._servers:
            environment = peer_environment(dict(server.environment))
            try:
                if server.missing():
                    raise PeerFailed(f"{Path(server.missing()).name} is missing; benchmarks/peers/setup.sh makes it")
                if with_cold:
                    self._cold(server, environment)
                self._processes[server.name] = self._warm(server, environment)
            except PeerFailed as error:
                self._out(server, "start", error)

    def round(self, number: int, jobs: Sequence[ServedJob]) -> None:
        """Each load to each server; who is first moves with the round."""
        turn = number % max(1, len(self._servers))
        for job in jobs:
            for server in [*self._servers[turn:], *self._servers[:turn]]:
                process = self._processes.get(server.name)
                if process is not None:
                    self._load(server, process, job, number)

    def weigh(self, weight_mb: float) -> None:
        """The most memory of each as figures; for Quire also what is beyond its weights and its KV.

        When it is ready no KV is in memory yet, later all of its room for it may be.
        """
        for name, most_mb in self._most_mb.items():
            self._note(name, "resident at most", "MB", most_mb)
            if name == "quire":
                rest = max(self._ready_mb[name], most_mb - self._part.kv_bytes / 1e6) - weight_mb
                self._note(name, "resident beyond weights and KV", "MB", rest)

    def end(self) -> None:
        """End every server."""
        for name in list(self._processes):
            self._processes.pop(name).end()

    def _cold(self, server: Server, environment: dict[str, str]) -> None:
        if server.cache_variable:
            cache = Path(environment[server.cache_variable]).with_name(f"{server.name}-cold-{self._part.model}")
            shutil.rmtree(cache, ignore_errors=True)
            environment[server.cache_variable] = str(cache)  # the warm start finds what this one leaves
        forget(server.model)
        self._started(server, environment, "cold").end()

    def _warm(self, server: Server, environment: Mapping[str, str]) -> ServerProcess:
        try:
            return self._started(server, environment, "warm")
        except PeerFailed as error:
            if not clear_cache(environment, server.cache_variable, self._log(server)):
                raise
            say(f"{server.name}: {error}; once more, with its cache emptied")
            self._started(server, environment, "cold").end()
            return self._started(server, environment, "warm")

    def _started(self, server: Server, environment: Mapping[str, str], how: str) -> ServerProcess:
        process = ServerProcess(server, environment, self._log(server), self._timeout_s)
        say(f"{server.name}, {self._part.label}: ready {how} after {process.ready_s:.2f} s, {process.ready_mb:.0f} MB")
        self._note(server.name, f"ready {how}", "s", process.ready_s)
        if how == "warm":
            self._ready_mb[server.name] = process.ready_mb
            self._note(server.name, "resident when ready", "MB", process.ready_mb)
        return process

    def _log(self, server: Server) -> Path:
        return self._logs / f"{server.name}-{self._part.model}-server.log"

    def _load(self, server: Server, process: ServerProcess, job: ServedJob, number: int) -> None:
        rate = round(job.rate * self._capacity, 2)
        name = f"{self._part.label}, {job.name}"
        if job.rate and not rate:
            self._leave_out(server.name, name)
            return
        try:
            result = process.load(self._options(job, rate, number))
        except PeerFailed as error:
            self._out(server, name, error)
            return
        if job.concurrency > 1:
            self._capacity = max(self._capacity, result.request_throughput)
        self.runs.append(ServedRun(server.name, name, number, rate, result))
        self._note(server.name, job.name, "output tokens/s", result.output_throughput, number, result.completed)
        if result.request_goodput is not None:
            self._note(server.name, f"{job.name}, good requests", "requests/s", result.request_goodput, number)
        self._most_mb[server.name] = max(self._most_mb.get(server.name, 0.0), process.memory_mb())
        at = f" at {rate:g} requests/s" if rate else ""
        say(f"round {number + 1}: {name}{at}: {server.name} {result.output_throughput:.1f} tokens/s")

    def _options(self, job: ServedJob, rate: float, number: int) -> list[str]:
        num_requests = math.ceil(rate * job.window_s) if rate else job.num_requests
        options = ["--num-prompts", str(num_requests), "--input-len", str(job.input_len)]
        options += ["--output-len", str(job.output_len), "--vocab-size", str(self._vocab_size), "--seed", str(number)]
        options += ["--request-rate", str(rate)] if rate else ["--max-concurrency", str(job.concurrency)]
        return [*options, "--goodput", *self._part.goodput] if rate and self._part.goodput else options

    def _note(self, racer: str, what: str, unit: str, value: float, number: int = 0, num_requests: int = 0) -> None:
        job = f"{self._part.label}, {what}"
        self.readings.append(Reading(racer, job, unit, value, number, num_requests, num_requests))

    def _leave_out(self, name: str, job: str) -> None:
        why = "its rate is a share of the requests a second of a load without a rate, and none was measured"
        self.failures.append(Failure(name, job, why, is_left_out=True))
        say(f"{name}: {job} is left out: {why}")

    def _out(self, server: Server, job: str, error: PeerFailed) -> None:
        """It takes no further part: a server that failed may be in any state."""
        process = self._processes.pop(server.name, None)
        if process is not None:
            process.end()
        self.failures.append(Failure(server.name, job, str(error).replace(f"{ROOT}/", "")))
        say(f"{server.name} is out, at {job}: {error}")
