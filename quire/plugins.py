"""Shelves: a name becomes a module, and a shelf is listed without importing it.

``quire.<shelf>.<name>`` comes first, then an entry point of the group ``quire.<shelf>``.

Not here: what a module on a shelf must export (docs/adding/).
Door: load, names.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from importlib.metadata import entry_points
from types import ModuleType

from quire.errors import ConfigError


def names(shelf: str) -> list[str]:
    """Names on a shelf such as ``models`` or ``scheduler.policies``, sorted; nothing on the shelf is imported."""
    return sorted(_own(shelf) | {point.name for point in entry_points(group=f"quire.{shelf}")})


def load(shelf: str, name: str) -> ModuleType:
    """The module behind a name.

    Raises: ConfigError, which lists the names there are, when the shelf has none of that name.
    """
    if name in _own(shelf):
        return importlib.import_module(f"quire.{shelf}.{name}")
    for point in entry_points(group=f"quire.{shelf}", name=name):
        module = point.load()
        if not isinstance(module, ModuleType):
            raise ConfigError(f"The entry point {name!r} of group 'quire.{shelf}' is not a module.")
        return module
    raise ConfigError(f"There is no {name!r} on the shelf {shelf!r}; it has: {', '.join(names(shelf)) or 'nothing'}.")


def _own(shelf: str) -> set[str]:
    spec = importlib.util.find_spec(f"quire.{shelf}")
    if spec is None or not spec.submodule_search_locations:
        return set()
    modules = pkgutil.iter_modules(list(spec.submodule_search_locations))
    return {module.name for module in modules if not module.name.startswith("_")}
