"""Who may import whom (importlinter.ini), and what starting up may not import."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys

import pytest

from tests.arch.source import ROOT

HEAVY = ("torch", "starlette", "uvicorn", "transformers", "numpy", "tokenizers", "huggingface_hub", "jinja2", "httpx2")

PROBE = """
import contextlib, io, runpy, sys
{act}
print(",".join(name for name in {heavy!r} if name in sys.modules))
"""

HELP = """
sys.argv = ["quire", *{arguments!r}]
with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
    runpy.run_module("quire", run_name="__main__", alter_sys=True)
assert shown.getvalue().strip(), "no help was printed"
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, in the project's folder."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def heavy_after(act: str) -> list[str]:
    """Heavy packages that a fresh interpreter has imported after running a few lines."""
    done = python(PROBE.format(act=act, heavy=HEAVY))
    assert done.returncode == 0, done.stderr
    return [one for one in done.stdout.strip().split(",") if one]


def contracts() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "importlinter.ini", encoding="utf-8")
    return parser


def layers(contract: str) -> set[str]:
    listed = contracts()[f"importlinter:contract:{contract}"]["layers"]
    return set(re.findall(r"quire\.(\w+)", listed))


def test_the_contracts_hold() -> None:
    lint = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = python(lint, "--no-cache", "--config", "importlinter.ini")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_package_stands_in_a_layer() -> None:
    inside = (ROOT / "quire").iterdir()
    packages = {path.stem for path in inside if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert packages - {"__init__"} <= layers("control") | layers("device")


def test_the_wall_names_every_package_of_the_device_stack() -> None:
    device = layers("device") - {"plugins", "config", "core", "errors"}
    existing = {one for one in device if (ROOT / "quire" / one / "__init__.py").exists()}
    for contract, key in (("wall", "forbidden_modules"), ("wall-back", "source_modules")):
        named = set(re.findall(r"quire\.(\w+)", contracts()[f"importlinter:contract:{contract}"][key]))
        assert existing <= named, f"contract {contract} forgets {sorted(existing - named)}"


@pytest.mark.parametrize("statement", ["import quire", "import quire.core.request", "from quire import SamplingParams"])
def test_importing_quire_imports_nothing_heavy(statement: str) -> None:
    assert heavy_after(statement) == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["serve", "--help"], ["bench", "--help"]])
def test_asking_for_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert heavy_after(HELP.format(arguments=arguments)) == []


def test_importing_the_library_class_does_not_import_torch() -> None:
    assert "torch" not in heavy_after("from quire import LLM")
