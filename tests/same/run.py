"""Prove that answers never depend on circumstances: ``python -m tests.same.run --prompts 200``.

A table of models and forms against conditions: how many prompts have the same ids and logprobs as when asked alone;
then where the others part. The exit status is 1 when any differs, or when a condition did not come about.

Not here: what is asked (asks.py), of what (forms.py), under which conditions (conditions.py), a sample for every test
run (test_same.py).
Door: judge, Verdict.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path

import msgspec
from msgspec import Struct

from quire.errors import ConfigError
from tests.same.answers import Answer, difference, digest
from tests.same.conditions import ALONE, CONDITIONS, Condition
from tests.same.forms import MODELS, Form, Model, forms
from tests.same.play import Part, play


class Verdict(Struct):
    """One pass of one condition. ``first``: where the first prompts part. ``digest``: of all answers."""

    model: str
    form: str
    name: str
    num_prompts: int = 0
    num_different: int = 0
    first: list[str] = []
    missing: list[str] = []
    refused: str = ""
    digest: str = ""
    counters: dict[str, int] = {}
    cpu_s: float = 0.0

    @property
    def is_good(self) -> bool:
        """A form that a model cannot have is no difference: that is said when it is asked alone."""
        return not (self.num_different or self.missing or (self.refused and self.name != ALONE.name))

    def __str__(self) -> str:
        if self.refused:
            return "refused"
        same = self.num_prompts - self.num_different
        missing = f" no {' no '.join(self.missing)}" if self.missing else ""
        return f"{same}{f' of {self.num_prompts}' if self.num_different else ''}{missing}"


def judge(
    model: Model, form: Form, folder: Path, conditions: Sequence[Condition], num_prompts: int
) -> Iterator[Verdict]:
    """A verdict for each pass of each condition, ``alone`` first; that one alone when the form cannot be had."""

    def part(condition: Condition) -> Part:
        return Part(path, form.options, form.isa, condition.name, num_prompts)

    path = model.made(folder)
    try:
        played = play(part(ALONE))
    except ConfigError as error:
        yield Verdict(model.name, form.name, ALONE.name, refused=str(error))
        return
    [expected] = played.passes
    prompts = [number for number in range(num_prompts) for _ in range(2)]
    yield Verdict(model.name, form.name, ALONE.name, num_prompts, digest=digest(expected), cpu_s=played.cpu_s)
    for condition in conditions:
        try:
            played = play(part(condition))
        except ConfigError as error:
            yield Verdict(model.name, form.name, condition.name, refused=str(error))
            continue
        for name, found in zip(condition.pass_names, played.passes, strict=True):
            different = _different(expected, found, prompts)
            yield Verdict(
                model.name,
                form.name,
                name,
                num_prompts,
                len(different),
                [f"prompt {number}: {where}" for number, where in list(different.items())[:3]],
                played.missing,
                digest=digest(found),
                counters=played.counters,
                cpu_s=played.cpu_s / len(played.passes),
            )


def _different(expected: Sequence[Answer], found: Sequence[Answer], prompts: Sequence[int]) -> dict[int, str]:
    """Where the answers to a prompt part first, for each prompt where they do."""
    different: dict[int, str] = {}
    for number, right, wrong in zip(prompts, expected, found, strict=True):
        where = difference(right, wrong)
        if where:
            different.setdefault(number, where)
    return different


def table(verdicts: Sequence[Verdict]) -> str:
    """Models and forms against conditions."""
    names = list(dict.fromkeys(verdict.name for verdict in verdicts))
    rows: dict[tuple[str, str], dict[str, Verdict]] = {}
    for verdict in verdicts:
        rows.setdefault((verdict.model, verdict.form), {})[verdict.name] = verdict
    lines = [["model", "form", *names, "hash", "CPU s"]]
    for (model, form), found in rows.items():
        cpu_s = sum(verdict.cpu_s for verdict in found.values())
        cells = [str(found[name]) if name in found else "-" for name in names]
        alone = found[ALONE.name].digest[:12] if ALONE.name in found else ""
        lines.append([model, form, *cells, alone, f"{cpu_s:.0f}"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main() -> int:
    """Returns the exit status."""
    asked = _arguments()
    pairs = [(model, form) for model in asked.models for form in asked.forms if _is_worth_it(model, form, asked)]
    if asked.lines:
        _print_lines(*pairs[0], asked)
        return 0
    started_s = time.monotonic()
    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(asked.jobs) as pool:
        for found in pool.map(_in_a_process, pairs, repeat(asked)):
            verdicts += found
            bad = sum(not verdict.is_good for verdict in found)
            print(f"{found[0].model}, {found[0].form}: {bad or 'nothing'} amiss", file=sys.stderr, flush=True)
    print(table(verdicts))
    for verdict in verdicts:
        if verdict.refused:
            print(f"{verdict.model}, {verdict.form}, {verdict.name}: refused: {verdict.refused}")
        for where in verdict.first:
            print(f"{verdict.model}, {verdict.form}, {verdict.name}: {where}")
    num_bad = sum(not verdict.is_good for verdict in verdicts)
    num_passes = sum(not verdict.refused for verdict in verdicts)
    print(f"{asked.prompts} prompts, {num_passes} passes, {num_bad} amiss, {time.monotonic() - started_s:.0f} s.")
    return 1 if num_bad else 0


def _is_worth_it(model: Model, form: Form, asked: argparse.Namespace) -> bool:
    """Old instruction sets are slow: without being named they are tried with the first model alone."""
    return not form.isa or model is MODELS[0] or len(asked.forms) < len(forms())


def _print_lines(model: Model, form: Form, asked: argparse.Namespace) -> None:
    logging.getLogger("quire").setLevel(logging.CRITICAL)  # Faults are planted, and engines killed, by the hundred.
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"  # Quantised weights are kept there.
        for verdict in judge(model, form, Path(folder, "model"), asked.conditions, asked.prompts):
            print(msgspec.json.encode(verdict).decode(), flush=True)


def _in_a_process(pair: tuple[Model, Form], asked: argparse.Namespace) -> list[Verdict]:
    model, form = pair
    chosen = asked.conditions or [condition for condition in CONDITIONS if condition.is_short or form.is_default]
    names = ";".join(condition.name for condition in chosen)
    command = [sys.executable, "-m", "tests.same.run", "--lines", f"--prompts={asked.prompts}"]
    command += [f"--models={model.name}", f"--forms={form.name}", f"--conditions={names}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    verdicts = [msgspec.json.decode(line, type=Verdict) for line in done.stdout.splitlines()]
    if done.returncode:
        # Its traceback stands above; what it has found so far still counts.
        first = [f"broke with {done.returncode}"]
        verdicts.append(Verdict(model.name, form.name, "broke", asked.prompts, asked.prompts, first))
    return verdicts


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Answers never depend on circumstances: prove it.")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=1, help="models and forms at a time, each in a process of its own")
    for what, known in (("models", MODELS), ("forms", forms()), ("conditions", CONDITIONS)):
        names = {one.name: one for one in known}
        parser.add_argument(
            f"--{what}",
            type=partial(_named, known=names),
            default=[] if what == "conditions" else list(known),
            help=f"some of these, with ; between: {'; '.join(names)}. Default: all"
            + " in bfloat16, in other forms those that differ most" * (what == "conditions"),
        )
    parser.add_argument("--lines", action="store_true", help="one model and form; verdicts as lines of JSON")
    return parser.parse_args()


def _named(text: str, known: Mapping[str, object]) -> list[object]:
    wrong = [name for name in text.split(";") if name not in known]
    if wrong:
        raise argparse.ArgumentTypeError(f"there is no {wrong[0]!r}; there are {'; '.join(known)}")
    return [known[name] for name in text.split(";")]


if __name__ == "__main__":
    sys.exit(main())
