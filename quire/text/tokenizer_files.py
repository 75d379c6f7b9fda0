"""What a checkpoint's folder says about its tokenizer, read from its JSON files.

Not here: encoding and decoding (tokenizer.py), sentencepiece models (sentencepiece_model.py), rendering (template.py).
Door: read_tokenizer_config, TokenizerConfig.
"""

from __future__ import annotations

import json
from pathlib import Path

from msgspec import Struct, field
from tokenizers import AddedToken

from quire.errors import CheckpointError

TEMPLATE_FILE = "chat_template.jinja"
MAX_JSON_BYTES = 512 * 1024 * 1024
"""A vocabulary of a million tokens takes about 50 MB."""

NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TokenizerConfig(Struct, frozen=True):
    """Facts beside the vocabulary.

    ``special_tokens``: spelling by name (``bos_token`` ...), also a template's variables. ``added``: tokens by id
    that the vocabulary must hold. ``chat_templates``: source by name; ``default`` is the one for plain chats,
    ``tool_use`` for chats with tools.
    """

    special_tokens: dict[str, str] = field(default_factory=dict)
    added: dict[int, AddedToken] = field(default_factory=dict)
    extra_special_tokens: tuple[str, ...] = ()
    chat_templates: dict[str, str] = field(default_factory=dict)
    model_max_length: int | None = None
    adds_bos: bool | None = None
    """``add_bos_token``; it matters only where no tokenizer.json says what is added."""
    adds_eos: bool | None = None

    @property
    def chat_template(self) -> str | None:
        """The default template's source."""
        return self.chat_templates.get("default")


def read_json_object(path: Path) -> dict[str, object]:
    """The JSON object in a file.

    Raises: CheckpointError, which names the file, when it is unreadable, too big, or not an object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError(f"{path}: {path.stat().st_size} bytes; at most {MAX_JSON_BYTES} are read.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error}). Fetch the file again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: a JSON object is expected, not a {type(content).__name__}.")
    return content


def read_tokenizer_config(folder: Path) -> TokenizerConfig:
    """Reads tokenizer_config.json, special_tokens_map.json, added_tokens.json and the template files of a folder.

    Raises: CheckpointError, which names the file, when one of them is damaged. Files that are missing say nothing.
    """
    config = _optional(folder / "tokenizer_config.json")
    special = _special_tokens(config)
    extra = _extra_special_tokens(config)
    added = _added_tokens(folder, config)
    if "added_tokens_decoder" not in config:
        legacy = _optional(folder / "special_tokens_map.json")
        special |= _special_tokens(legacy)
        extra += tuple(token for token in _extra_special_tokens(legacy) if token not in extra)
        added |= _legacy_added_tokens(folder, {*special.values(), *extra}, added)
    max_length = config.get("model_max_length")
    return TokenizerConfig(
        special_tokens=special,
        added=added,
        extra_special_tokens=extra,
        chat_templates=_chat_templates(folder, config),
        # Files write "no limit" as 1e30.
        model_max_length=int(max_length) if isinstance(max_length, int | float) and 0 < max_length < 2**40 else None,
        adds_bos=_truth(config, "add_bos_token"),
        adds_eos=_truth(config, "add_eos_token"),
    )


def _optional(path: Path) -> dict[str, object]:
    return read_json_object(path) if path.is_file() else {}


def _truth(config: dict[str, object], name: str) -> bool | None:
    value = config.get(name)
    return value if isinstance(value, bool) else None


def _spelling(value: object) -> str | None:
    """A token is written as a string, or as an object with ``content``."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _special_tokens(config: dict[str, object]) -> dict[str, str]:
    named: dict[str, str] = {}
    extra = config.get("extra_special_tokens")
    sources = [config, extra] if isinstance(extra, dict) else [config]
    for source in sources:
        for name, value in source.items():
            # Models name tokens of their own, such as image_token.
            spelling = _spelling(value) if isinstance(name, str) and name.endswith("_token") else None
            if spelling is not None and (name in NAMED_TOKENS or isinstance(value, str)):
                named[name] = spelling
    return named


def _extra_special_tokens(config: dict[str, object]) -> tuple[str, ...]:
    found: list[str] = []
    for name in ("extra_special_tokens", "additional_special_tokens"):
        values = config.get(name)
        for value in values if isinstance(values, list) else []:
            spelling = _spelling(value)
            if spelling is not None and spelling not in found:
                found.append(spelling)
    return tuple(found)


def _added_tokens(folder: Path, config: dict[str, object]) -> dict[int, AddedToken]:
    declared = config.get("added_tokens_decoder", {})
    if not isinstance(declared, dict):
        raise CheckpointError(f"{folder / 'tokenizer_config.json'}: added_tokens_decoder must be an object.")
    added: dict[int, AddedToken] = {}
    for key, value in declared.items():
        spelling = _spelling(value)
        if not str(key).isdecimal() or spelling is None or not isinstance(value, dict):
            raise CheckpointError(
                f"{folder / 'tokenizer_config.json'}: added token {str(key)[:40]!r} is not understood."
            )
        added[int(key)] = AddedToken(
            spelling,
            single_word=bool(value.get("single_word", False)),
            lstrip=bool(value.get("lstrip", False)),
            rstrip=bool(value.get("rstrip", False)),
            normalized=bool(value.get("normalized", True)),
            special=bool(value.get("special", False)),
        )
    return added


def _legacy_added_tokens(folder: Path, special: set[str], known: dict[int, AddedToken]) -> dict[int, AddedToken]:
    added: dict[int, AddedToken] = {}
    for spelling, number in _optional(folder / "added_tokens.json").items():
        if not isinstance(number, int) or number < 0:
            raise CheckpointError(f"{folder / 'added_tokens.json'}: the id of {spelling[:40]!r} is not a number.")
        if number not in known:
            is_special = spelling in special
            added[number] = AddedToken(spelling, normalized=not is_special, special=is_special)
    return added


def _chat_templates(folder: Path, config: dict[str, object]) -> dict[str, str]:
    """Files of their own win over the entry in tokenizer_config.json."""
    templates = _named_templates(config.get("chat_template"))
    templates |= _named_templates(_optional(folder / "chat_template.json").get("chat_template"))
    if (folder / TEMPLATE_FILE).is_file():
        templates["default"] = _read_text(folder / TEMPLATE_FILE)
    for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        templates[path.stem] = _read_text(path)
    return templates


def _named_templates(value: object) -> dict[str, str]:
    if isinstance(value, str):
        return {"default": value}
    named: dict[str, str] = {}
    for entry in value if isinstance(value, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("template"), str):
            named[entry["name"]] = entry["template"]
    return named


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not readable as UTF-8 text ({error}).") from error
