"""Chat templates: messages become one text.

Not here: the sandbox (template_sandbox.py), control tokens in clients' strings (control.py), encoding (prompt.py).
Door: ChatTemplate.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Literal

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateSyntaxError

from quire.errors import ConfigError, InvalidValue
from quire.text.messages import ContentFormat, Message, readable_messages
from quire.text.template_sandbox import MAX_TEXT_CHARS, Sandbox

MAX_VARIABLES = 64
MAX_VARIABLE_BYTES = 64 * 1024

RESERVED_VARIABLES = frozenset(
    [
        "messages",
        "tools",
        "documents",
        "conversation",
        "chat_template",
        "tokenize",
        "add_generation_prompt",
        "continue_final_message",
        "padding",
        "truncation",
        "max_length",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "tokenizer_kwargs",
        "raise_exception",
        "strftime_now",
        "range",
        "dict",
        "namespace",
        "cycler",
        "joiner",
        "lipsum",
        "loop",
        "self",
        "super",
        "caller",
        "varargs",
        "kwargs",
    ]
)


class ChatTemplate:
    """A compiled template. Threads may share it.

    ``special_tokens``: variables such as ``bos_token``. ``tool_source``: a template for chats with tools, if the
    checkpoint has one of its own. ``content_format`` ``auto``: parts stay a list where the template walks over a
    message's content, else they become one string.

    Raises: ConfigError for a source that is no template.
    """

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str] | None = None,
        *,
        tool_source: str | None = None,
        content_format: Literal["auto", "string", "openai"] = "auto",
    ) -> None:
        self.source = source
        self._special_tokens = dict(special_tokens or {})
        self._sandbox = Sandbox()
        self._plain = _Compiled(self._sandbox, source, content_format)
        self._with_tools = _Compiled(self._sandbox, tool_source, content_format) if tool_source else self._plain

    @property
    def content_format(self) -> ContentFormat:
        """How messages' content reaches the template."""
        return self._plain.content_format

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[object] | None = None,
        documents: Sequence[object] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, object] | None = None,
    ) -> str:
        """The text of a chat.

        ``continue_final_message``: the text ends where the last message's content ends, so that the model goes on
        with it.

        Raises: InvalidValue (``param`` names the field) for messages the template refuses, and for variables of
        reserved names.
        """
        if continue_final_message and add_generation_prompt:
            raise InvalidValue(
                "continue_final_message and add_generation_prompt exclude each other; set one to false.",
                param="continue_final_message",
            )
        compiled = self._with_tools if tools else self._plain
        readable = readable_messages(
            messages, content_format=compiled.content_format, wraps_strings=compiled.wraps_strings
        )
        tag = _tag_end(readable[-1]) if continue_final_message else ""
        given = {
            **self._special_tokens,
            **_checked_variables(variables or {}, self._special_tokens),
            "messages": readable,
            "tools": list(tools) if tools else None,
            "documents": list(documents) if documents else None,
            "add_generation_prompt": add_generation_prompt,
        }
        text = self._rendered(compiled, given)
        return _cut_at(text, tag) if tag else text

    def _rendered(self, compiled: _Compiled, given: dict[str, object]) -> str:
        self._sandbox.budget.refill()
        pieces: list[str] = []
        length = 0
        try:
            for piece in compiled.template.generate(given):
                pieces.append(piece)
                length += len(piece)
                if length > MAX_TEXT_CHARS:
                    raise InvalidValue(
                        f"The rendered chat has more than {MAX_TEXT_CHARS} characters; shorten the messages.",
                        param="messages",
                    )
        except InvalidValue:
            raise
        except Exception as error:  # a template may raise anything at all; it is the messages that it cannot take
            reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
            raise InvalidValue(f"The chat template does not take these messages: {reason}", param="messages") from error
        return "".join(pieces)


class _Compiled:
    """One source: its program and what it expects of a message's content."""

    def __init__(self, sandbox: Sandbox, source: str, content_format: Literal["auto", "string", "openai"]) -> None:
        try:
            tree = sandbox.parse(source)
            self.template: Template = sandbox.from_string(source)
        except (TemplateSyntaxError, RecursionError) as error:
            line = getattr(error, "lineno", 0)
            raise ConfigError(f"The chat template is no Jinja template, line {line}: {str(error)[:200]}.") from error
        walks, tests = _walks_over_content(tree)
        self.content_format: ContentFormat = (
            ("openai" if walks else "string") if content_format == "auto" else content_format
        )
        self.wraps_strings = not tests


def _walks_over_content(tree: nodes.Template) -> tuple[bool, bool]:
    """Whether a loop walks over some message's content, and whether the template asks if content is a string."""
    aliases: set[str] = set()
    while True:
        found = _aliases(tree, aliases)
        if found <= aliases:
            break
        aliases |= found
    walks = any(_is_content(loop.iter, aliases) for loop in tree.find_all(nodes.For))
    tests = any(
        test.name in ("string", "iterable", "sequence", "mapping") and _is_content(test.node, aliases)
        for test in tree.find_all(nodes.Test)
    )
    return walks, tests


def _aliases(tree: nodes.Template, known: set[str]) -> set[str]:
    """Names that hold a message's content: by assignment, or as a macro's parameter."""
    found: set[str] = set()
    for assignment in tree.find_all(nodes.Assign):
        if isinstance(assignment.target, nodes.Name) and _is_content(assignment.node, known):
            found.add(assignment.target.name)
    macros = {macro.name: macro for macro in tree.find_all(nodes.Macro)}
    for call in tree.find_all(nodes.Call):
        macro = macros.get(call.node.name) if isinstance(call.node, nodes.Name) else None
        if macro is not None:
            for parameter, value in zip(macro.args, call.args, strict=False):
                if _is_content(value, known):
                    found.add(parameter.name)
    return found


def _is_content(node: nodes.Node | None, aliases: set[str]) -> bool:
    if isinstance(node, nodes.Name):
        return node.name in aliases
    if isinstance(node, nodes.Getattr):
        return node.attr == "content"
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Const) and node.arg.value == "content"
    return isinstance(node, nodes.Filter) and _is_content(node.node, aliases)


def _checked_variables(variables: Mapping[str, object], special_tokens: Mapping[str, str]) -> dict[str, object]:
    param = "chat_template_kwargs"
    if not isinstance(variables, Mapping):
        raise InvalidValue(f"{param} must be an object, got {type(variables).__name__}.", param=param)
    if len(variables) > MAX_VARIABLES:
        raise InvalidValue(f"{param} may hold at most {MAX_VARIABLES} names, got {len(variables)}.", param=param)
    names: list[object] = list(variables)
    for name in names:
        is_name = isinstance(name, str) and len(name) <= 64 and name.isidentifier()
        if not is_name or str(name).startswith("_") or name in RESERVED_VARIABLES or name in special_tokens:
            raise InvalidValue(f"{param} may not set {str(name)[:64]!r}.", param=f"{param}.{str(name)[:64]}")
    try:
        size = len(json.dumps(dict(variables)))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue(f"{param} must be made of JSON values.", param=param) from error
    if size > MAX_VARIABLE_BYTES:
        raise InvalidValue(f"{param} has {size} bytes of JSON; at most {MAX_VARIABLE_BYTES} are taken.", param=param)
    return dict(variables)


def _tag_end(message: Message) -> str:
    """Puts a tag behind the message's content. The space in it tells whether the template trims."""
    tag = f"\U0010fffc{secrets.token_hex(8)}\U0010fffc "
    content = message["content"]
    if isinstance(content, str):
        message["content"] = content + tag
    elif isinstance(content, list) and content:
        last = content[-1]
        message["content"] = [*content[:-1], {**last, "text": f"{last['text']}{tag}"}]
    else:
        raise InvalidValue("The last message has no content to continue.", param="messages")
    return tag


def _cut_at(text: str, tag: str) -> str:
    at = text.rfind(tag.rstrip())
    if at < 0:
        raise InvalidValue(
            "The chat template leaves out the last message's content, so it cannot be continued.",
            param="continue_final_message",
        )
    # A template that trims content would have trimmed the space before the tag too, were it the end.
    return text[:at] if text.startswith(tag, at) else text[:at].rstrip()
