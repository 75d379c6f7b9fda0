"""The project's files as the architecture tests see them.

Not here: rules about them (test_*.py beside this file).
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def modules() -> tuple[Path, ...]:
    """Every Python file of the package, sorted."""
    return tuple(sorted((ROOT / "quire").rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name(path: Path) -> str:
    """A path as people write it: from the root of the project."""
    return path.relative_to(ROOT).as_posix()


@cache
def texts() -> tuple[Path, ...]:
    """Every text file that belongs to the project: sources, documents, settings; no caches, no environment."""
    kinds = {".py", ".md", ".toml", ".ini", ".txt", ".json", ".jinja", ".yaml", ".yml", ".sh", ""}
    outside = {".git", ".venv", ".scratch", "__pycache__", "node_modules", "build", "dist"}
    found = []
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        is_cache = any(part in outside or part.endswith("_cache") or part == ".hypothesis" for part in parts)
        if not is_cache and path.suffix in kinds and path.is_file():
            found.append(path)
    return tuple(found)
