"""The command line itself: verbs, errors in one line, and how little it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from quire.cli import INTERRUPTED, MISTAKE, main
from quire.version import __version__

HEAVY = ("torch", "starlette", "uvicorn", "huggingface_hub", "tokenizers", "jinja2", "numpy", "yaml", "asyncio")


def test_the_overview_names_every_verb_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == 0
    shown = capsys.readouterr().out
    for verb in ("serve", "generate", "chat", "complete", "bench", "plan", "doctor", "config", "collect-env"):
        line = next(line for line in shown.splitlines() if line.strip().startswith(verb))
        assert len(line.split()) > 2


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"quire {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["srve"], "did you mean serve"),
        (["zzz"], "there are: "),
        (["serve", "--enable-lora"], "known vLLM flag"),
        (["serve", "--port", "x"], "--port takes"),
        (["serve", "./no/such/folder", "--port", "0"], "no folder ./no/such/folder"),
        (["plan", "./nope"], "no folder ./nope"),
        (["config", "show"], "quire config explain"),
        (["generate", "--max-tokens", "x"], "--max-tokens"),
        (["doctor", "--nope"], "--nope"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == MISTAKE
    captured = capsys.readouterr()
    assert captured.out == "" and expected in captured.err and captured.err.count("\n") == 1


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("quire.cli._run", interrupt)
    assert main([]) == INTERRUPTED


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["serve", "--help"], ["serve", "--help=all"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys, json; from quire.cli import main; code = main(sys.argv[1:]); "
        "print(json.dumps([code, sorted({name.split('.')[0] for name in sys.modules})]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    code, loaded = json.loads(done.stderr)
    assert code == 0 and not set(loaded) & set(HEAVY)


@pytest.mark.parametrize("module", ["quire", "quire.entrypoints.openai.api_server"])
def test_the_package_runs_as_a_module(module: str, tmp_path: Path) -> None:
    arguments = ["serve"] if module == "quire" else []
    command = [sys.executable, "-m", module, *arguments, "--model", str(tmp_path), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == MISTAKE and "config.json" in done.stderr and done.stderr.count("\n") == 1
