"""Rules about every file of the package that a linter does not know; each test lists all places that break its rule."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.arch.source import ROOT, modules, name, texts, tree

DRAWERS = {"manager", "handler", "helper", "util", "common", "misc", "base", "info", "data", "wrapper", "mixin"}
"""Words that name no idea: whatever is put there, nobody finds it."""

DRAWER_NAMES_OF_OTHERS = {"data_received", "tokenizer_info"}
"""Names that somebody else's interface asks for: a method of asyncio's protocols, a route."""

FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "transformers"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "torch.load", "torch.save", "os.system", "os.popen"}

MAX_CODE_LINES = 400
LONGER: dict[str, str] = {}
"""Files that may have more lines of code, with the reason."""

READS_ENVIRONMENT = {
    "quire/config/env.py": "the one place for it",
    "quire/cli/_remote.py": "OPENAI_API_KEY, which every client of such a server reads; no engine sees it",
    "quire/engine/process.py": "hands the whole environment on to the engine's process",
}
"""Files that touch environment variables, with the reason."""

CHECKS_INPUT = ("quire/server", "quire/config", "quire/cli", "quire/text/validate.py", "quire/worker/checkpoint.py")
"""Where what comes from outside is checked: never with ``assert``, which is for our own bugs."""


def dotted(node: ast.expr) -> str:
    """The dotted name of an expression such as ``torch.load``; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}" if dotted(node.value) else ""
    return ""


def named_imports(node: ast.AST) -> set[str]:
    """What an import statement names, as dotted names."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return {f"{node.module}.{alias.name}" for alias in node.names}
    return set()


def defined(path: Path) -> Iterator[str]:
    """Names of the file, its classes and its functions."""
    yield path.stem
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


def words(identifier: str) -> set[str]:
    """The words of a name in snake_case or CamelCase, in small letters."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", identifier)}


def is_drawer(identifier: str) -> bool:
    """Whether a word of the name is a drawer, in singular or plural."""
    return bool({word.removesuffix("s") for word in words(identifier)} & DRAWERS)


def code_lines(path: Path) -> int:
    """Lines that hold code: no blank lines, no comments, no docstrings."""
    prose: set[int] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    quiet = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type not in quiet:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - prose)


def breaches(path: Path) -> Iterator[str]:
    """Places where a file could run or unpickle what it did not write."""
    for node in ast.walk(tree(path)):
        found = {one for one in named_imports(node) if one.split(".")[0] in FORBIDDEN_MODULES or one in FORBIDDEN_CALLS}
        if isinstance(node, ast.Call) and dotted(node.func) in FORBIDDEN_CALLS:
            found.add(dotted(node.func))
        yield from (f"{name(path)}:{getattr(node, 'lineno', 0)} {one}" for one in found)


def narrows(test: ast.expr) -> bool:
    """Whether an assertion only tells the type checker what is so already."""
    return "is not None" in ast.unparse(test) or "isinstance(" in ast.unparse(test)


def test_the_names_of_things_come_apart_into_words() -> None:
    assert words("HTTPServer_base") == {"http", "server", "base"}
    assert words("_BlockPool2") == {"block", "pool2"}
    assert is_drawer("write_utils")
    assert not is_drawer("database")


def test_the_search_for_breaches_finds_what_was_planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "planted.py"
    path.write_text("import pickle.x\nfrom torch import load\nfrom marshal import a\ntorch.load(f)\neval('1')\n")
    monkeypatch.setattr("tests.arch.test_source.name", lambda path: path.name)
    assert sorted(breaches(path)) == [
        "planted.py:1 pickle.x",
        "planted.py:2 torch.load",
        "planted.py:3 marshal.a",
        "planted.py:4 torch.load",
        "planted.py:5 eval",
    ]


def test_what_is_declared_is_what_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    modules_of = {"pyyaml": "yaml"}
    declared = {re.split(r"[^\w-]", one)[0].lower() for one in project["dependencies"]}
    imports = {
        one.split(".")[0] for path in modules() for node in ast.walk(tree(path)) for one in named_imports(node)
    }
    foreign = imports - sys.stdlib_module_names - {"quire"}
    assert foreign == {modules_of.get(one, one) for one in declared}


def test_every_module_says_what_lives_in_it() -> None:
    assert [name(path) for path in modules() if not ast.get_docstring(tree(path))] == []


def test_nothing_is_unpickled_and_no_text_is_run() -> None:
    assert [one for path in modules() for one in breaches(path)] == []


def test_no_name_is_a_drawer() -> None:
    found = [
        f"{name(path)}: {one}"
        for path in modules()
        for one in defined(path)
        if is_drawer(one) and one not in DRAWER_NAMES_OF_OTHERS
    ]
    assert found == []


def test_a_module_fits_into_a_head() -> None:
    too_long = {name(path): code_lines(path) for path in modules() if code_lines(path) > MAX_CODE_LINES}
    assert set(too_long) == set(LONGER), too_long


def test_an_assert_never_checks_what_came_from_outside() -> None:
    found = [
        f"{name(path)}:{node.lineno}"
        for path in modules()
        if name(path).startswith(CHECKS_INPUT)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Assert) and not narrows(node.test)
    ]
    assert found == [], "raise an error with a remedy instead"


def test_the_environment_is_read_in_one_place() -> None:
    touches = re.compile(r"\bos\.(environ|getenv|putenv)\b|from os import .*\b(environ|getenv)\b")
    found = {name(path) for path in modules() if touches.search(path.read_text(encoding="utf-8"))}
    assert found == set(READS_ENVIRONMENT)


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    places = re.compile(r"(?<![\w.:/-])/(root|home/\w+|Users/\w+|work|mnt/\w+)(/|\b)")
    found = [
        f"{name(path)}: {match.group(0)}"
        for path in texts()
        if path != Path(__file__)
        for match in places.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []
