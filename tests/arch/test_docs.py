"""The documents tell the truth: files they name exist, flags they name parse, their links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import quire
from quire.config.asked import all_options
from quire.config.known_flags import area_of
from tests.arch.source import ROOT, name

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
PARTS = "quire|tests|docs|benchmarks|training"


def paths_in(text: str) -> set[str]:
    """Paths of the project that a text names, without placeholders such as ``<name>``."""
    return set(re.findall(rf"(?<![\w/.<-])((?:{PARTS})/[\w./-]*\w/?)(?![\w<*/])", text))


def flags_in(text: str) -> set[str]:
    """Long flags in code: in backticks, or in indented lines."""
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^ {4,}(.+)$", text, re.MULTILINE)
    return {flag.rstrip("-") for part in code for flag in re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)", part)}


def own_flags() -> set[str]:
    """Flags of the options, and those that the commands add themselves."""
    flags = {"help", "config", "version", "no"}
    for _, option in all_options():
        for spelled in (option.name, *option.also):
            flags |= {spelled.replace("_", "-"), "no-" + spelled.replace("_", "-")}
    for path in (ROOT / "quire" / "cli").glob("*.py"):
        flags |= set(re.findall(r'"--([a-z][a-z0-9-]*)"', path.read_text(encoding="utf-8")))
    return flags


@pytest.mark.parametrize("document", DOCUMENTS, ids=[name(path) for path in DOCUMENTS])
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    gone = {one for one in paths_in(document.read_text(encoding="utf-8")) if not (ROOT / one).exists()}
    assert not gone - {"benchmarks/.scratch/qwen3-0.6b", "benchmarks/results/peers.jsonl"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=[name(path) for path in DOCUMENTS])
def test_every_link_in_a_document_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        assert target.startswith("http") or (document.parent / target).exists(), f"{name(document)} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=[name(path) for path in DOCUMENTS])
def test_every_flag_that_a_document_names_is_one(document: Path) -> None:
    of_pip = {"extra-index-url"}
    unknown = flags_in(document.read_text(encoding="utf-8")) - own_flags() - of_pip
    if document.name == "migrating-from-vllm.md":
        unknown = {flag for flag in unknown if area_of(flag) is None}
    assert not unknown


def test_the_journey_passes_through_every_layer() -> None:
    named = paths_in((ROOT / "docs" / "journey.md").read_text(encoding="utf-8"))
    packages = {one.split("/")[1] for one in named if one.startswith("quire/")}
    passed = {"cli", "server", "text", "engine", "core", "scheduler", "kvcache", "worker", "models", "sampling"}
    assert passed <= packages


def test_the_readme_lists_every_family_on_the_shelf() -> None:
    words = {
        "gemma2": "Gemma 2",
        "gemma3_text": "Gemma 3",
        "llama": "Llama",
        "mistral": "Mistral",
        "phi3": "Phi-3",
        "qwen2": "Qwen 2",
        "qwen3": "3 (dense)",
    }
    families = {path.stem for path in (ROOT / "quire" / "models").glob("[a-z]*.py")}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert families <= set(words), "a new family belongs into the README's table and into this test"
    assert all(words[family] in text for family in families)


def test_the_readmes_python_can_be_read_and_imports_what_there_is() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 2
    for node in (node for block in blocks for node in ast.walk(ast.parse(block))):
        if isinstance(node, ast.ImportFrom) and node.module == "quire":
            assert {alias.name for alias in node.names} <= set(quire.__all__)


def test_every_test_that_a_document_names_is_there() -> None:
    named = {
        (path, name)
        for document in DOCUMENTS
        for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / document).read_text())
    }
    missing = [f"{path}::{name}" for path, name in sorted(named) if not _defines(path, name)]
    assert len(named) > 50 and missing == []


def _defines(path: str, name: str) -> bool:
    file = ROOT / path
    return file.is_file() and re.search(rf"^\s*(?:async )?def {name}\(", file.read_text(), re.M) is not None
