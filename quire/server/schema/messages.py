"""Messages and tools of a conversation: what this API asks of them beyond what every chat template needs.

Every error names the place, as ``messages[2].tool_call_id``.

Not here: content parts, arguments of tool calls (text/messages.py), rendering (text/template.py).
Door: checked_messages, check_tools.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from quire.errors import InvalidValue, NotSupported
from quire.text.messages import MAX_MESSAGES

ROLES = ("system", "developer", "user", "assistant", "tool")
MAX_TOOLS = 512
MAX_NAME_CHARS = 256

_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_KNOWN = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning", "reasoning_content")


def checked_messages(messages: Sequence[Mapping[str, object]], *, knows_developer: bool) -> list[dict[str, object]]:
    """Messages with the fields that templates read. ``knows_developer`` False turns the role developer into system.

    Raises: InvalidValue and NotSupported whose ``param`` is the path of what is wrong.
    """
    if not messages:
        raise InvalidValue("'messages' must not be empty.", param="messages")
    if len(messages) > MAX_MESSAGES:
        raise InvalidValue(
            f"'messages' has {len(messages)} entries; at most {MAX_MESSAGES} are allowed.", param="messages"
        )
    checked = [_message(message, f"messages[{i}]") for i, message in enumerate(messages)]
    if not knows_developer:
        for message in checked:
            if message["role"] == "developer":
                message["role"] = "system"
    return checked


def _message(message: Mapping[str, object], path: str) -> dict[str, object]:
    role = message.get("role")
    if role not in ROLES:
        raise InvalidValue(f"'{path}.role' must be one of {', '.join(ROLES)}.", param=f"{path}.role")
    for name in ("function_call", "audio"):
        if message.get(name) is not None:
            raise NotSupported(f"'{name}' in a message is not supported by this server.", param=f"{path}.{name}")
    kept = {name: message[name] for name in _KNOWN if message.get(name) is not None}
    if not kept.get("tool_calls"):
        kept.pop("tool_calls", None)
    elif role != "assistant":
        raise InvalidValue("Only a message of the assistant has 'tool_calls'.", param=f"{path}.tool_calls")
    if "content" not in kept:
        refusal = message.get("refusal")
        if isinstance(refusal, str) and role == "assistant":
            kept["content"] = refusal
        elif "tool_calls" not in kept:
            raise InvalidValue(f"'{path}.content' is missing.", param=f"{path}.content")
    sender = kept.get("name", "")
    if not isinstance(sender, str) or len(sender) > MAX_NAME_CHARS:
        raise InvalidValue(f"A name is a string of at most {MAX_NAME_CHARS} characters.", param=f"{path}.name")
    call_id = kept.get("tool_call_id")
    if role == "tool" and (not isinstance(call_id, str) or not call_id):
        raise InvalidValue("A message of a tool needs 'tool_call_id'.", param=f"{path}.tool_call_id")
    return kept


def check_tools(tools: Sequence[Mapping[str, object]]) -> None:
    """Raise InvalidValue whose ``param`` is the path of what is wrong."""
    if len(tools) > MAX_TOOLS:
        raise InvalidValue(f"'tools' has {len(tools)} entries; at most {MAX_TOOLS} are allowed.", param="tools")
    seen: set[str] = set()
    for i, tool in enumerate(tools):
        path = f"tools[{i}]"
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, dict):
            raise InvalidValue(f"'{path}' must have 'type': 'function' and an object 'function'.", param=path)
        name = function.get("name")
        if not isinstance(name, str) or _TOOL_NAME.fullmatch(name) is None:
            raise InvalidValue(
                f"'{path}.function.name' must be 1 to 64 letters, digits, dots, dashes or underscores.",
                param=f"{path}.function.name",
            )
        if name in seen:
            raise InvalidValue(f"Two tools have the name '{name}'.", param=f"{path}.function.name")
        seen.add(name)
        if "parameters" in function and not isinstance(function["parameters"], dict):
            raise InvalidValue(f"'{path}.function.parameters' must be an object.", param=f"{path}.function.parameters")
        if not isinstance(function.get("description", ""), str | None):
            raise InvalidValue(f"'{path}.function.description' must be a string.", param=f"{path}.function.description")
