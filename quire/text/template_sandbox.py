"""The sandbox in which chat templates run: what published templates expect, and bounds on work and memory.

A template comes with a checkpoint, so it is not trusted: it reaches nothing outside its variables, its lookups and
calls are counted, and what it may multiply is bounded. The bounds are per rendering and do not depend on the
machine's speed.

Not here: messages (messages.py), the template's own facts (template.py).
Door: Sandbox.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import wraps
from types import BuiltinMethodType
from typing import NoReturn

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from quire.text.control import unescape_marks

MAX_OPERATIONS = 5_000_000
"""Lookups, calls and steps of range() in one rendering; some seconds. A chat of 1,000 messages needs about 20,000."""
MAX_TEXT_CHARS = 64 * 1024 * 1024
"""Of any one value, and of the whole."""
MAX_PRODUCT_CHARS = 1_000_000
MAX_NUMBER = 1_000_000
"""Of an argument of a filter or a built-in method: widths, counts."""
MAX_POWER = 64

_WIDE_FORMAT = re.compile(r"\d{5}|\*|\{[^}]*\{")


class Budget(threading.local):
    """Operations left to the rendering of this thread."""

    left = MAX_OPERATIONS

    def refill(self) -> None:
        """Called before a rendering."""
        self.left = MAX_OPERATIONS

    def spend(self, operations: int = 1) -> None:
        """Raises SecurityError when nothing is left."""
        self.left -= operations
        if self.left < 0:
            raise SecurityError(f"the template needs more than {MAX_OPERATIONS} operations")


class _Generation(Extension):
    """``{% generation %}...{% endgeneration %}`` marks an assistant's text for training; here its body is just
    rendered.
    """

    tags = {"generation"}  # noqa: RUF012 - the library's class attribute

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class _Generator(CodeGenerator):
    """Lets ``~`` go through the sandbox too."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concatenated((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment for one template; threads may share it, each has its own budget."""

    intercepted_binops = frozenset(("*", "**", "%", "+"))
    code_generator_class = _Generator

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.budget = Budget()
        self.filters["tojson"] = _to_json
        self.filters = {name: _bounded(name, filter) for name, filter in self.filters.items()}
        self.globals.pop("lipsum", None)
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now, "range": self._range}

    def getattr(self, obj: object, attribute: str) -> object:
        self.budget.spend()
        if isinstance(obj, str) and attribute in ("format", "format_map"):
            _check_format(obj)
        return super().getattr(obj, attribute)

    def getitem(self, obj: object, argument: object) -> object:
        self.budget.spend()
        if isinstance(obj, str) and argument in ("format", "format_map"):
            _check_format(obj)
        return super().getitem(obj, argument)

    def call(self, context: Context, obj: object, /, *args: object, **kwargs: object) -> object:
        self.budget.spend()
        if isinstance(obj, BuiltinMethodType):
            _check_text_call(obj.__name__, (obj.__self__, *args), kwargs)
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        self.budget.spend()
        if operator == "**" and not (_is_small(left) and _is_small(right)):
            raise SecurityError("a power in the template is too large")
        if operator == "*":
            _check_product(left, right)
        if operator == "%" and isinstance(left, str):
            _check_format(left)
        if operator == "+":
            _check_length(_length(left) + _length(right))
        return super().call_binop(context, operator, left, right)

    def concatenated(self, parts: Iterable[object]) -> str:
        """What ``~`` gives."""
        self.budget.spend()
        texts = [str(part) for part in parts]
        _check_length(sum(map(len, texts)))
        return "".join(texts)

    def _range(self, *bounds: int) -> range:
        steps = range(*bounds)
        self.budget.spend(len(steps) + 1)
        return steps


def _is_small(value: object) -> bool:
    return isinstance(value, int | float) and -MAX_POWER <= value <= MAX_POWER


def _length(value: object) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0


def _check_length(length: int) -> None:
    if length > MAX_TEXT_CHARS:
        raise SecurityError(f"a value in the template has more than {MAX_TEXT_CHARS} characters or entries")


def _check_product(left: object, right: object) -> None:
    for repeated, times in ((left, right), (right, left)):
        if isinstance(times, int) and _length(repeated) * times > MAX_PRODUCT_CHARS:
            raise SecurityError(f"a repetition in the template has more than {MAX_PRODUCT_CHARS} parts")


def _check_format(form: str) -> None:
    if _WIDE_FORMAT.search(form):
        raise SecurityError("a format string in the template asks for a width that is too large or not written out")


def _check_text_call(name: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
    """Bounds what a built-in method or filter may make of its arguments; the first is the value it works on."""
    for value in (*args[1:], *kwargs.values()):
        if isinstance(value, int) and abs(value) > MAX_NUMBER:
            raise SecurityError(f"a number in a call of {name} is above {MAX_NUMBER}")
    text = args[0] if args else None
    if not isinstance(text, str):
        return
    if name == "format":
        _check_format(text)
    elif name == "replace" and len(args) > 2 and isinstance(args[1], str):
        _check_length(text.count(args[1]) * _length(args[2]))
    elif name == "join" and len(args) > 1 and isinstance(args[1], list | tuple):
        _check_length(sum(len(text) + _length(part) for part in args[1]))
    elif name == "indent":
        widths = [value for value in (*args[1:], *kwargs.values()) if isinstance(value, int)]
        _check_length(text.count("\n") * max(widths, default=4))


def _bounded(name: str, filter: Callable[..., object]) -> Callable[..., object]:
    """The filter with its arguments checked; some take the context or the environment before the value."""
    num_passed = 1 if hasattr(filter, "jinja_pass_arg") else 0

    @wraps(filter)
    def checked(*args: object, **kwargs: object) -> object:
        _check_text_call(name, args[num_passed:], kwargs)
        if name == "join" and len(args) > num_passed:
            separator = args[num_passed + 1] if len(args) > num_passed + 1 else ""
            parts = list(args[num_passed])  # type: ignore[call-overload]
            _check_length(sum(_length(separator) + _length(part) for part in parts))
            args = (*args[:num_passed], parts, *args[num_passed + 1 :])
        return filter(*args, **kwargs)

    return checked


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as templates expect it: unlike the library's own filter, characters of HTML stay as they are."""
    dumped = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    return unescape_marks(dumped) if ensure_ascii else dumped


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
