"""Prompts in all their forms become token ids.

Not here: the check of ids and lengths against the engine (validate.py), HTTP (server/).
Door: parse_prompt, PromptEncoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from quire.config.decided import TextConfig
from quire.errors import CheckpointError, ConfigError, InvalidValue, NotSupported, PromptTooLong
from quire.text.messages import Message
from quire.text.template import ChatTemplate
from quire.text.tokenizer import Tokenizer, check_unicode

_UNSERVED = ("prompt_embeds", "multi_modal_data", "encoder_prompt", "mm_processor_kwargs", "multi_modal_uuids", "data")


class PromptParts(Struct, frozen=True):
    """A prompt taken apart: a text or ids, or both when the caller knows the text of the ids."""

    text: str | None = None
    ids: tuple[int, ...] | None = None
    cache_salt: str = ""


class EncodedChat(Struct, frozen=True):
    """A chat as text, for people, and as ids, for the engine."""

    text: str
    ids: list[int]


def parse_prompt(prompt: object) -> PromptParts:
    """Takes a string, a list of ids, or an object with ``prompt`` or ``prompt_token_ids`` (and ``cache_salt``) apart.

    Raises: InvalidValue for other forms; NotSupported for forms of the field that need more than text.
    """
    if isinstance(prompt, str):
        return PromptParts(text=prompt)
    if isinstance(prompt, list | tuple):
        return PromptParts(ids=_ids(prompt))
    if not isinstance(prompt, dict):
        raise InvalidValue(
            f"A prompt must be a string, a list of token ids or an object, got {type(prompt).__name__}.",
            param="prompt",
        )
    for name in _UNSERVED:
        if prompt.get(name) is not None:
            raise NotSupported(f"This model takes text only; {name} is not taken.", param=name)
    text, ids, salt = prompt.get("prompt"), prompt.get("prompt_token_ids"), prompt.get("cache_salt")
    if text is not None and not isinstance(text, str):
        raise InvalidValue(f"prompt must be a string, got {type(text).__name__}.", param="prompt")
    if ids is not None and not isinstance(ids, list | tuple):
        raise InvalidValue(f"prompt_token_ids must be a list, got {type(ids).__name__}.", param="prompt_token_ids")
    if text is None and ids is None:
        raise InvalidValue("A prompt object needs prompt or prompt_token_ids.", param="prompt")
    if salt is not None and (not isinstance(salt, str) or not salt):
        raise InvalidValue("cache_salt must be a string that is not empty.", param="cache_salt")
    return PromptParts(text=text, ids=None if ids is None else _ids(ids), cache_salt=salt or "")


def _ids(ids: Sequence[object]) -> tuple[int, ...]:
    known = tuple(id for id in ids if type(id) is int)
    if len(known) < len(ids):
        wrong = next(id for id in ids if type(id) is not int)
        raise InvalidValue(f"Token ids must be integers, got {type(wrong).__name__}.", param="prompt")
    return known


def load_chat_template(config: TextConfig, tokenizer: Tokenizer | None) -> ChatTemplate | None:
    """The operator's template if there is one, else the checkpoint's; None when neither has one.

    Raises: ConfigError, or CheckpointError that names the folder, when it is no Jinja template.
    """
    special = tokenizer.config.special_tokens if tokenizer is not None else {}
    if config.chat_template is not None:
        return ChatTemplate(config.chat_template, special)
    if tokenizer is None or tokenizer.config.chat_template is None:
        return None
    tool_source = tokenizer.config.chat_templates.get("tool_use")
    try:
        return ChatTemplate(tokenizer.config.chat_template, special, tool_source=tool_source)
    except ConfigError as error:
        raise CheckpointError(
            f"{config.tokenizer_path}: {error.message} Repair it, or give another with --chat-template."
        ) from None


def read_chat_template(text_or_path: str) -> str:
    """A template given on the command line: the content of a file of that name, else the text itself.

    Raises: ConfigError when it is neither a file nor looks like a template.
    """
    if not any(mark in text_or_path for mark in ("{", "\n")):
        path = Path(text_or_path)
        if not path.is_file():
            raise ConfigError(f"The chat template {text_or_path[:200]!r} is neither a file nor a Jinja template.")
        return path.read_text(encoding="utf-8")
    return text_or_path


class PromptEncoder:
    """Texts and chats to ids, for every door. Threads may share it."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None, max_model_len: int) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._max_model_len = max_model_len

    def encode_text(self, text: str, *, add_special_tokens: bool = True, is_truncated: bool = False) -> list[int]:
        """Ids of a plain prompt; the text of a special token is that token, as in every engine.

        ``is_truncated``: the ids will be cut to the context, so a text of any length goes.

        Raises: PromptTooLong, before anything is encoded, for a text that cannot fit whatever its tokens are.
        """
        if not is_truncated:
            self._check_length(text, "prompt")
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[object] | None = None,
        documents: Sequence[object] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, object] | None = None,
        add_special_tokens: bool = False,
        template: ChatTemplate | None = None,
        is_truncated: bool = False,
    ) -> EncodedChat:
        """Renders a chat and encodes it; what clients wrote never becomes a control token (control.py).

        Raises: InvalidValue for messages, tools or variables that cannot be rendered; PromptTooLong as ``encode_text``.
        """
        template = template or self._template
        if template is None:
            raise InvalidValue(
                "This model has no chat template. Start with --chat-template, or use completions.", param="messages"
            )
        control = self._tokenizer.control
        values = (messages, tools, documents, variables)
        try:
            is_spelled = control.are_spelled_in(values)
            marks = control.marks_for(values) if is_spelled else None
            marked = [control.mark(value, marks) if marks else value for value in values]
            rendered = template.render(
                marked[0],  # type: ignore[arg-type]  # a marked copy has the types of what was marked
                tools=marked[1],  # type: ignore[arg-type]
                documents=marked[2],  # type: ignore[arg-type]
                variables=marked[3],  # type: ignore[arg-type]
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
            )
        except RecursionError as error:
            raise InvalidValue("The messages are nested too deep.", param="messages") from error
        check_unicode(rendered, "messages")
        if not is_truncated:
            self._check_length(rendered, "messages")
        if marks is None:
            return EncodedChat(rendered, self._tokenizer.encode(rendered, add_special_tokens=add_special_tokens))
        text = marks.restore(rendered)
        return EncodedChat(text, control.encode(rendered, marks, add_special_tokens=add_special_tokens))

    def _check_length(self, text: str, param: str) -> None:
        most = self._max_model_len * self._tokenizer.max_piece_chars
        if len(text) > most:
            raise PromptTooLong(
                f"The prompt has {len(text)} characters; {self._max_model_len} tokens hold at most {most}. "
                "Shorten it or raise --max-model-len.",
                param=param,
            )
