"""Command lines: flags derived from the options, a YAML file under them, and help that can be searched.

Not here: what options there are (the slices), what is done with them (resolve.py).
Door: read_command_line, help_text, wants_help.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Never

from quire.config.asked import SLICES, Asked, all_options, gather, unknown
from quire.config.known_flags import area_of
from quire.config.option import Option, read_text
from quire.errors import ConfigError

_GROUPS = {
    "model": "which model, its type and its context",
    "load": "where its files come from",
    "text": "sampling defaults and templates",
    "cache": "memory for KV",
    "scheduler": "how much a step computes",
    "device": "where it is computed",
    "fixed": "flags with one value so far, or none that matters",
    "server": "HTTP: address, keys, logs",
}
_CONFIG_HELP = "YAML file of options, each named as its flag; the command line wins over it."

Values = dict[str, tuple[object, str]]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Never:
        raise ConfigError(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help.")


def read_command_line(arguments: Sequence[str], *, prog: str, takes_server: bool = True) -> Asked:
    """What a command line asks: ``[model] [--flag value] ...``.

    Raises: ConfigError in one line; UnknownFlag or UnsupportedFlag for a flag that is none of Quire's.
    """
    slices = SLICES if takes_server else {group: one for group, one in SLICES.items() if group != "server"}
    options = {one.name: one for _, one in all_options(slices)}
    dotted: dict[str, dict[str, object]] = {}
    plain = _join_dotted(_with_dashes(arguments), options, dotted)
    _refuse_unknown(plain, options)
    parser = _parser(prog, options)
    found = vars(parser.parse_args(plain))
    values: Values = {}
    config = found.pop("config")
    if config is not None:
        values.update(_read_file(Path(config)))
    positional = found.pop("model_tag")
    for name, raw in found.items():
        values[name] = (_value_of(options[name], raw), f"flag {options[name].flag}")
    if positional is not None:
        if "model" in found and found["model"] != positional:
            raise ConfigError(f"Two models are named: {positional!r} and --model {found['model']!r}; name one.")
        values["model"] = (positional, "command line")
    for name, given in dotted.items():
        before = values[name][0] if name in found else {}
        merged = {**(before if isinstance(before, dict) else {}), **given}
        values[name] = (merged, f"flag {options[name].flag}")
    return gather(values, slices)


def wants_help(arguments: Sequence[str]) -> str | None:
    """What ``--help`` asks for: "" for the groups, ``all``, or a text to search; None when it is not there."""
    for argument in arguments:
        if argument in ("--help", "-h"):
            return ""
        if argument.startswith("--help="):
            return argument.removeprefix("--help=")
    return None


def help_text(prog: str, search: str, *, takes_server: bool = True) -> str:
    """Help on the options: their groups for "", all of them for ``all``, or those whose group, flag or help matches."""
    slices = SLICES if takes_server else {group: one for group, one in SLICES.items() if group != "server"}
    listed = list(all_options(slices))
    lines = [f"usage: {prog} [model] [--config file.yaml] [options]", ""]
    if not search:
        for group in slices:
            names = " ".join(one.flag for name, one in listed if name == group)
            lines.append(f"{group}: {_GROUPS[group]}")
            lines += textwrap.wrap(
                names,
                100,
                initial_indent="    ",
                subsequent_indent="    ",
                break_on_hyphens=False,
                break_long_words=False,
            )
        lines += ["", f"{prog} --help=all explains every flag, --help=<group> a group, --help=<text> those that match."]
        return "\n".join(lines)
    wanted = search.lower().lstrip("-").replace("_", "-")
    if wanted in slices:
        chosen = [(group, one) for group, one in listed if group == wanted]
    elif wanted == "all":
        chosen = listed
    else:
        chosen = [(group, one) for group, one in listed if wanted in one.flag or wanted in one.help.lower()]
    if not chosen:
        area = area_of(wanted)
        known = f" {wanted!r} is a known vLLM flag ({area}), not served by Quire yet." if area else ""
        return f"No option matches {search!r}.{known} {prog} --help=all lists them."
    group_before = ""
    for group, one in chosen:
        if group != group_before:
            lines.append(f"{group}: {_GROUPS[group]}")
            group_before = group
        lines += _explained(one)
    if wanted == "all":
        lines += [f"    {'--config':<34} {_CONFIG_HELP}"]
    return "\n".join(lines)


def _explained(one: Option) -> list[str]:
    shown = one.flag + "".join(f", {_spelled(other)}" for other in one.also)
    facts = [one.help]
    if one.choices:
        facts.append(f"One of {', '.join(one.choices)}.")
    if one.unit:
        facts.append(f"In {one.unit}.")
    if one.default not in (None, (), "", False):
        default = " ".join(one.default) if isinstance(one.default, tuple) else one.default
        facts.append(f"Default: {str(default).lower() if isinstance(default, bool) else default}.")
    if one.notice:
        facts.append(one.notice[:1].upper() + one.notice[1:])
    text = textwrap.wrap(" ".join(facts), 80, break_on_hyphens=False)
    lead = f"    {shown:<34} "
    if len(shown) > 34:
        return [f"    {shown}", *(" " * 39 + line for line in text)]
    return [lead + text[0], *(" " * 39 + line for line in text[1:])]


def _spelled(name: str) -> str:
    return ("-" if len(name) <= 2 else "--") + name.replace("_", "-")


def _parser(prog: str, options: dict[str, Option]) -> _Parser:
    parser = _Parser(prog=prog, add_help=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("model_tag", nargs="?", default=None)
    parser.add_argument("--config", default=None)
    for one in options.values():
        flags = [one.flag, *(_spelled(other) for other in one.also)]
        match one.kind:
            case "truth":
                parser.add_argument(*flags, dest=one.name, action=argparse.BooleanOptionalAction)
            case "texts":
                parser.add_argument(*flags, dest=one.name, nargs="+")
            case "secret":
                parser.add_argument(*flags, dest=one.name, nargs="?", const=True)
            case _:
                parser.add_argument(*flags, dest=one.name)
    return parser


def _value_of(one: Option, raw: object) -> object:
    if one.kind == "texts" and isinstance(raw, list):
        read = [read_text(one, text) for text in raw]
        return tuple(text for part in read if isinstance(part, tuple) for text in part)
    return read_text(one, raw) if isinstance(raw, str) else raw


def _with_dashes(arguments: Sequence[str]) -> list[str]:
    """Flags with dashes for underscores in their names; values are left as they are."""
    spelled = []
    for argument in arguments:
        if argument.startswith("--") and len(argument) > 2:
            name, equals, value = argument.partition("=")
            head, dot, keys = name.partition(".")
            argument = head.replace("_", "-") + dot + keys + equals + value
        spelled.append(argument)
    return spelled


def _join_dotted(arguments: list[str], options: dict[str, Option], dotted: dict[str, dict[str, object]]) -> list[str]:
    """Take ``--x.a.b value`` of JSON options out of the arguments and put it into ``dotted`` as ``x: {a: {b:
    value}}``."""
    rest = []
    waiting = iter(arguments)
    for argument in waiting:
        name, equals, value = argument.partition("=")
        head, dot, keys = name[2:].partition(".") if argument.startswith("--") else ("", "", "")
        one = options.get(head.replace("-", "_"))
        if not dot or one is None or one.kind != "json":
            rest.append(argument)
            continue
        if not equals:
            value = next(waiting, "")
            if not value:
                raise ConfigError(f"{name} needs a value.")
        inner = dotted.setdefault(one.name, {})
        *path, last = keys.split(".")
        for key in path:
            deeper = inner.setdefault(key, {})
            if not isinstance(deeper, dict):
                raise ConfigError(f"{name}: {key!r} is given as a value and as an object.")
            inner = deeper
        inner[last] = _loose_json(value)
    return rest


def _loose_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _refuse_unknown(arguments: list[str], options: dict[str, Option]) -> None:
    flags = {"config"}
    for one in options.values():
        for name in (one.name, *one.also):
            dashed = name.replace("_", "-")
            flags |= {dashed, f"no-{dashed}"} if one.kind == "truth" else {dashed}
    for argument in arguments:
        if argument == "--":
            return
        name = argument.partition("=")[0].partition(".")[0]
        is_long = name.startswith("--")
        if not is_long and not (name.startswith("-") and area_of(name) and len(name) <= 4):
            if name.startswith("-O") and name[2:].isdecimal():
                raise unknown("optimization-level", options)
            continue
        plain = name.lstrip("-")
        # A beginning of a flag that is no flag itself stands for it, as in every command of this kind.
        is_known = plain in flags or (area_of(plain) is None and any(flag.startswith(plain) for flag in flags))
        if not is_known:
            raise unknown(plain.replace("-", "_"), options)


def _read_file(path: Path) -> Values:
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"--config {path}: cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: is no YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path}: expected lines of the form flag: value.")
    values: Values = {}
    for key, value in content.items():
        name = str(key).removeprefix("--").replace("-", "_")
        if name == "model_tag":
            name = "model"
        # YAML has no way to say a flag without a value; an empty one leaves the option alone.
        if value is not None:
            values[name] = (value, f"file {path}")
    return values
