"""What was asked: every option of a run, by slices, and where each came from.

Not here: what is decided (root.py), reading command lines (flags.py).
Door: EngineOptions, Asked, engine_options, SLICES.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from quire.config.cache import CacheOptions
from quire.config.device import DeviceOptions
from quire.config.fixed import FixedOptions
from quire.config.known_flags import area_of
from quire.config.load import LoadOptions
from quire.config.model import ModelOptions
from quire.config.option import Option, accept, options_of
from quire.config.scheduler import SchedulerOptions
from quire.config.server import ServerOptions
from quire.config.text import TextOptions
from quire.errors import UnknownFlag, UnsupportedFlag

ENGINE_SLICES: dict[str, type] = {
    "model": ModelOptions,
    "load": LoadOptions,
    "text": TextOptions,
    "cache": CacheOptions,
    "scheduler": SchedulerOptions,
    "device": DeviceOptions,
    "fixed": FixedOptions,
}
SLICES: dict[str, type] = {**ENGINE_SLICES, "server": ServerOptions}
"""Every slice by its name; the names are the groups of ``--help``."""


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Options of the engine, shared by server and library. ``origins``: where a value that is no default came from."""

    model: ModelOptions = field(default_factory=ModelOptions)
    load: LoadOptions = field(default_factory=LoadOptions)
    text: TextOptions = field(default_factory=TextOptions)
    cache: CacheOptions = field(default_factory=CacheOptions)
    scheduler: SchedulerOptions = field(default_factory=SchedulerOptions)
    device: DeviceOptions = field(default_factory=DeviceOptions)
    fixed: FixedOptions = field(default_factory=FixedOptions)
    origins: Mapping[str, str] = field(default_factory=dict)

    def is_asked(self, name: str) -> bool:
        """Whether somebody gave the option a value."""
        return name in self.origins

    def origin(self, name: str) -> str:
        """Where the value of an option came from: ``flag --x``, ``file y.yaml``, ``argument x``, or ``default``."""
        return self.origins.get(name, "default")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """All that one run was asked."""

    engine: EngineOptions
    server: ServerOptions = field(default_factory=ServerOptions)


def all_options(slices: Mapping[str, type] = SLICES) -> Iterator[tuple[str, Option]]:
    """Each option with the name of its slice."""
    for group, slice_type in slices.items():
        for one in options_of(slice_type):
            yield group, one


def gather(values: Mapping[str, tuple[object, str]], slices: Mapping[str, type] = SLICES) -> Asked:
    """Options from values by name, each with its origin; every value is checked.

    Raises: ConfigError naming the option; UnknownFlag or UnsupportedFlag for a name that is none.
    """
    known = {spelling: (group, one) for group, one in all_options(slices) for spelling in (one.name, *one.also)}
    accepted: dict[str, dict[str, object]] = {group: {} for group in slices}
    origins: dict[str, str] = {}
    for name, (value, origin) in values.items():
        if name not in known:
            raise unknown(name, known, origin)
        group, one = known[name]
        accepted[group][one.name] = accept(one, value)
        if value is not None:
            origins[one.name] = origin
    parts = {group: slices[group](**accepted[group]) for group in slices}
    server = cast(ServerOptions, parts.pop("server", ServerOptions()))
    return Asked(engine=EngineOptions(**parts, origins=origins), server=server)


def engine_options(**arguments: object) -> EngineOptions:
    """Options from keyword arguments, spelled as flags with underscores.

    Raises: ConfigError naming the argument, and the nearest one where there is none of that name.
    """
    values = {name: (value, f"argument {name}") for name, value in arguments.items()}
    # Writing statistics is the server's: the library never does, and says so when it is asked to.
    if "disable_log_stats" in values:
        value, _ = values.pop("disable_log_stats")
        if value is not True:
            raise UnsupportedFlag("disable_log_stats=False is not served yet: LLM writes no statistics.")
    return gather(values, ENGINE_SLICES).engine


def unknown(name: str, known: Iterable[str], origin: str = "") -> UnknownFlag | UnsupportedFlag:
    """The error for a name that is no option: known of the field, or the nearest that is one."""
    spelled = name if origin.startswith("argument") else "--" + name.replace("_", "-")
    area = area_of(name)
    if area is not None:
        return UnsupportedFlag(f"{spelled} is a known vLLM flag ({area}), not served by Quire yet.", param=name)
    if name in {one.name for _, one in all_options({"server": ServerOptions})}:
        return UnknownFlag(f"{spelled} is no option without a server; quire serve takes it.", param=name)
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    if not near:
        return UnknownFlag(f"{spelled} is no option of Quire. See quire serve --help=all.", param=name)
    best = near[0] if origin.startswith("argument") else "--" + near[0].replace("_", "-")
    return UnknownFlag(f"{spelled} is no option of Quire; did you mean {best}?", param=name)
