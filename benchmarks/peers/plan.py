"""What one race will run: the parts, jobs, engines and rounds that a command line asks for.

Not here: the parts themselves (parts.py), running them (race.py).
Door: make_plan, Plan, parse_job.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from benchmarks.peers.lineup import Racer, Server, line_up, servers
from benchmarks.peers.parts import OFFLINE, SERVED, Part, Served, ServedJob, offline_seconds, served_seconds
from quire.bench.jobs import name_of
from quire.bench.offline import Batch
from quire.errors import ConfigError


class Plan(Struct):
    """By each part's name: what it runs. ``offline``, ``racers`` and ``boxes`` (see Part.box_s) are of offline parts,
    ``loads`` and ``servers`` of served ones."""

    parts: list[str]
    rounds: dict[str, int]
    boxes: dict[str, float]
    offline: dict[str, list[Batch]]
    racers: dict[str, list[Racer]]
    loads: dict[str, list[ServedJob]]
    servers: dict[str, list[Server]]

    @property
    def batches(self) -> list[Batch]:
        return list(dict.fromkeys(batch for several in self.offline.values() for batch in several))

    def seconds(self, ceilings: Mapping[tuple[int, str], float], *, with_cold: bool) -> dict[str, float]:
        """About how long each part takes, given the machine's limit for each (bits, job)."""
        found = {}
        for name in self.parts:
            rounds = self.rounds[name]
            if name in SERVED:
                found[name] = served_seconds(SERVED[name], self.servers[name], rounds, with_cold=with_cold)
            else:
                batches = self.offline[name]
                found[name] = offline_seconds(self.racers[name], batches, rounds, self.boxes[name], ceilings)
        return found


def make_plan(args: argparse.Namespace, quire_python: Path) -> Plan:
    """The plan for the command line of race.py.

    Raises: ConfigError for an engine or a job that there is not, and when nothing is left to do.
    """
    plan = Plan([], {}, {}, {}, {}, {}, {})
    only = None if args.only is None else [_job_name(one) for one in args.only if one != "start"]
    asked = args.parts or (["jobs"] if args.jobs or only == [] else [*OFFLINE, *SERVED])
    _check_jobs(only or (), args.jobs or (), asked)
    known = line_up(args.folder.absolute(), args.model.absolute(), quire_python)
    _check_peers(args.peers, known)
    for name in asked:
        part: Part | Served = OFFLINE.get(name) or SERVED[name]
        if isinstance(part, Part):
            _add_offline(plan, name, part, args, only, known)
        else:
            _add_served(plan, name, part, args, only, quire_python)
    if not plan.parts:
        raise ConfigError("None of these engines has any of these jobs, so nothing is left to run.")
    return plan


def _add_offline(
    plan: Plan, name: str, part: Part, args: argparse.Namespace, only: Sequence[str] | None, known: Mapping[str, Racer]
) -> None:
    batches = [parse_job(text) for text in args.jobs] if args.jobs else list(part.batches)
    if part.is_alone and not args.jobs:  # what an earlier part measures is a point of the curve already
        batches = [batch for batch in batches if batch not in plan.batches]
    if only is not None:
        batches = [batch for batch in batches if name_of(batch) in only]
    names = _named(args.peers, part.racers, known) if args.peers else list(part.racers)
    if names and (batches or only == []):
        plan.parts.append(name)
        plan.rounds[name] = _rounds(name, part.rounds, args.rounds)
        plan.boxes[name] = part.box_s and (args.box or part.box_s)
        plan.offline[name], plan.racers[name] = batches, [known[one] for one in names]


def _add_served(
    plan: Plan, name: str, part: Served, args: argparse.Namespace, only: Sequence[str] | None, quire_python: Path
) -> None:
    here = (args.served / part.model).absolute()
    several = servers(args.folder.absolute(), here, quire_python, port=args.port, kv_bytes=part.kv_bytes, num_seqs=64)
    loads = [job for job in part.jobs if only is None or f"{part.label}, {job.name}" in only]
    several = [server for server in several if not args.peers or server.name in args.peers]
    if several and loads:
        plan.parts.append(name)
        plan.rounds[name] = _rounds(name, part.rounds, args.rounds)
        plan.loads[name], plan.servers[name] = loads, several


def _rounds(name: str, own: int, asked: Sequence[str]) -> int:
    """The rounds of a part: what is asked for it (``curve=2``), else its own, else what is asked for all.

    Raises: ConfigError for anything else than a number above 0 or PART=NUMBER.
    """
    found = {"": 3}
    for text in asked:
        part, equals, number = text.rpartition("=")
        if not number.isdecimal() or not int(number) or (equals and part not in (*OFFLINE, *SERVED)):
            raise ConfigError(f"--rounds takes a number above 0, and PART=NUMBER for some parts; not {text!r}.")
        found[part] = int(number)
    return found.get(name) or own or found[""]


def _named(peers: Sequence[str], racers: Sequence[str], known: Mapping[str, Racer]) -> list[str]:
    """Of the peers asked for, those that the part names, and other settings of these: vllm-default where vllm is."""
    modules = {known[one].module for one in racers}
    forms = {known[one].form for one in racers}
    return [one for one in dict.fromkeys(peers) if known[one].module in modules and known[one].form in forms]


def _check_peers(peers: Sequence[str] | None, known: Mapping[str, Racer]) -> None:
    wrong = [name for name in peers or () if name not in known]
    if wrong:
        raise ConfigError(f"There is no engine {wrong[0]!r}; there are: {', '.join(known)}.")


def _check_jobs(only: Sequence[str], jobs: Sequence[str], parts: Sequence[str]) -> None:
    known = [_job_name(text) for text in jobs]
    for part in parts:
        if part in SERVED:
            known += [f"{SERVED[part].label}, {job.name}" for job in SERVED[part].jobs]
        elif not jobs:
            known += [name_of(batch) for batch in OFFLINE[part].batches]
    wrong = [name for name in only if name not in known]
    if wrong:
        raise ConfigError(f"There is no job {wrong[0]!r}; there are: {', '.join(dict.fromkeys(known))} and start.")


def _job_name(text: str) -> str:
    """A job's name from any spelling of it: ``8x128+64`` is "8 x 128 + 64"; a load keeps its own."""
    return text if "," in text else name_of(parse_job(text))


def parse_job(text: str) -> Batch:
    """``8x128+64``, with spaces or not: 8 prompts of 128 tokens, each continued by 64.

    Raises: ConfigError for another form or a number that is 0.
    """
    found = re.fullmatch(r"(\d+)x(\d+)\+(\d+)", text.replace(" ", ""))
    numbers = [int(number) for number in found.groups()] if found else [0]
    if min(numbers) < 1:
        raise ConfigError(f"{text!r} is no job: write prompts x tokens + output tokens, such as 8x128+64.")
    return Batch(*numbers)
