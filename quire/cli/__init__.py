"""The command line: ``quire <verb>``. Each verb is a file of this package, listed without importing it.

A verb exports ``HELP`` (one line) and ``run``: either ``run(arguments)`` with what follows the verb, or
``add_arguments(parser)`` and ``run(namespace)``. A mistake is one line on stderr and exit code 2.

Not here: the verbs, options of the engine (config/flags.py).
Door: main.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from quire.errors import ConfigError, QuireError

MISTAKE = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the result is the process's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(arguments)
    except QuireError as error:
        print(f"quire: {' '.join(error.message.split())}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has gone; what is left in the buffer has nobody to go to.
        sys.stderr.close()
        return INTERRUPTED


def _run(arguments: list[str]) -> int:
    from quire import plugins

    verbs = {name.replace("_", "-"): name for name in plugins.names("cli")}
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview(verbs))
        return 0
    if arguments[0] in ("-v", "-V", "--version", "version"):
        from quire.version import __version__

        print(f"quire {__version__}")
        return 0
    verb = arguments[0].replace("_", "-")
    if verb not in verbs:
        import difflib

        near = difflib.get_close_matches(verb, list(verbs), n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(verbs)}."
        raise ConfigError(f"quire has no command {arguments[0]!r}{hint}")
    module = plugins.load("cli", verbs[verb])
    if not hasattr(module, "add_arguments"):
        return int(module.run(arguments[1:]))
    from quire.cli._arguments import Parser

    parser = Parser(prog=f"quire {verb}", description=module.HELP)
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(arguments[1:])))


def _overview(verbs: dict[str, str]) -> str:
    lines = ["usage: quire <command> [options]", ""]
    for verb, name in verbs.items():
        lines.append(f"  {verb:<12} {_help_of(name)}")
    lines += ["", "quire <command> --help says more. quire --version prints the version."]
    return "\n".join(lines)


def _help_of(name: str) -> str:
    """The one line of a verb, read from its source: importing all of them would be slow."""
    import ast
    import importlib.util

    spec = importlib.util.find_spec(f"quire.cli.{name}")
    if spec is None or spec.origin is None:
        return ""
    with open(spec.origin, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="HELP")], value=ast.Constant(value=str(text))):
                return text
    return ""
