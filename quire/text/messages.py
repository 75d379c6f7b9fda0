"""Chat messages as clients write them become messages as templates read them.

Not here: HTTP schemas (server/schema), rendering (template.py).
Door: readable_messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from quire.errors import InvalidValue, NotSupported

ContentFormat = Literal["string", "openai"]
Message = dict[str, object]

MAX_MESSAGES = 16_384
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_MEDIA = ("image", "audio", "video", "file", "prompt_embeds")


def readable_messages(
    messages: Sequence[Message], *, content_format: ContentFormat, wraps_strings: bool = False
) -> list[Message]:
    """Copies of the messages with content in the form a template reads.

    Format ``string``: parts are joined by line breaks. ``openai``: parts stay a list; with ``wraps_strings`` a string
    becomes a list of one part. Arguments of tool calls become objects; ``reasoning`` is told under
    ``reasoning_content`` too, and the other way round.

    Raises: InvalidValue, NotSupported; ``param`` is the path of the field.
    """
    if not messages:
        raise InvalidValue("messages must hold at least one message, got none.", param="messages")
    if len(messages) > MAX_MESSAGES:
        raise InvalidValue(f"At most {MAX_MESSAGES} messages are taken, got {len(messages)}.", param="messages")
    return [_readable(message, f"messages[{at}]", content_format, wraps_strings) for at, message in enumerate(messages)]


def _readable(message: Message, path: str, content_format: ContentFormat, wraps_strings: bool) -> Message:
    if not isinstance(message, dict):
        raise InvalidValue(f"{path} must be an object, got {type(message).__name__}.", param=path)
    role = message.get("role")
    if not isinstance(role, str) or not role or len(role) > 64:
        raise InvalidValue(f"{path}.role must be a string of 1 to 64 characters.", param=f"{path}.role")
    readable = dict(message)
    content = _texts(message.get("content"), f"{path}.content")
    if isinstance(content, str):
        is_wrapped = content_format == "openai" and wraps_strings
        readable["content"] = [{"type": "text", "text": content}] if is_wrapped else content
    elif content_format == "openai":
        readable["content"] = [{"type": "text", "text": text} for text in content]
    else:
        readable["content"] = "\n".join(content)
    if message.get("tool_calls") is not None:
        readable["tool_calls"] = _tool_calls(message["tool_calls"], f"{path}.tool_calls")
    reasoning = message.get("reasoning_content", message.get("reasoning"))
    if reasoning is not None:
        if not isinstance(reasoning, str):
            raise InvalidValue(f"{path}.reasoning must be a string.", param=f"{path}.reasoning")
        readable["reasoning"] = readable["reasoning_content"] = reasoning
    return readable


def _texts(content: object, path: str) -> str | list[str]:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidValue(f"{path} must be a string or a list of parts, got {type(content).__name__}.", param=path)
    return [_part_text(part, f"{path}[{at}]") for at, part in enumerate(content)]


def _part_text(part: object, path: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str):
        raise InvalidValue(f"{path} must be an object with a type.", param=path)
    if kind not in _TEXT_PARTS:
        if kind.removeprefix("input_").startswith(_MEDIA):
            raise NotSupported(f"{path}: this model takes text only, got a part of type {kind[:40]!r}.", param=path)
        raise InvalidValue(f"{path}.type must be 'text', got {kind[:40]!r}.", param=f"{path}.type")
    text = part.get(_TEXT_PARTS[kind])
    if not isinstance(text, str):
        raise InvalidValue(f"{path}.{_TEXT_PARTS[kind]} must be a string.", param=f"{path}.{_TEXT_PARTS[kind]}")
    return text


def _tool_calls(calls: object, path: str) -> list[object]:
    """Templates read arguments as an object; clients send them as JSON text."""
    if not isinstance(calls, list):
        raise InvalidValue(f"{path} must be a list, got {type(calls).__name__}.", param=path)
    readable: list[object] = []
    for at, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidValue(f"{path}[{at}].function must be an object with a name.", param=f"{path}[{at}].function")
        arguments = _arguments(function.get("arguments"), f"{path}[{at}].function.arguments")
        readable.append({**call, "function": {**function, "arguments": arguments}})
    return readable


def _arguments(arguments: object, path: str) -> dict[str, object]:
    if arguments is None or arguments == "":
        return {}
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments.encode("utf-8", "replace"))
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidValue(f"{path} must be JSON: {str(error)[:100]}.", param=path) from error
    if not isinstance(arguments, dict):
        raise InvalidValue(f"{path} must be a JSON object, got {type(arguments).__name__}.", param=path)
    return arguments
