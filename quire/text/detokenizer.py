"""Token ids become text, a few ids at a time: the pieces put together are the text of the whole.

Two ways. Where the decoder chain is a table of bytes (vocabulary.py), bytes go through an incremental UTF-8 decoder:
a character comes out when its last byte has come. Otherwise the last tokens are decoded together with one token
before them, and what is new comes out.

Bytes that never form UTF-8 become U+FFFD, one for each maximal broken part, as soon as it is certain; the end of the
text inside a character does too.

Not here: stop strings (stopper.py), which ids belong to the text (stream.py).
Door: Detokenizer.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quire.text.tokenizer import Tokenizer

_PROMPT_TAIL = 8
"""Prompt tokens that can matter to what follows: a character has at most 4 bytes."""

_MAX_HELD = 8
"""A character has at most 4 bytes: if so many tokens leave it open, it is broken."""

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """The text of one growing sequence. After any pushes and a ``finish``, the pieces joined are the text of all ids.

    With ``prompt_ids`` the text is the continuation of that prompt's: a leading space is kept, and a character that
    the prompt left open is completed. ``spaces_between_special_tokens`` False puts no space between two special
    tokens in a row; only decoder chains that write such spaces are touched by it (WordPiece; byte-level and
    sentencepiece ones write none).
    """

    __slots__ = ("_pieces", "_skipped")

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        prompt_ids: Sequence[int] = (),
        skip_special_tokens: bool = True,
        spaces_between_special_tokens: bool = True,
    ) -> None:
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset[int]()
        tail = [id for id in prompt_ids[-_PROMPT_TAIL:] if id not in self._skipped]
        if tokenizer.scheme.is_table:
            self._pieces: _BytePieces | _WindowPieces = _BytePieces(tokenizer, tail)
        else:
            self._pieces = _WindowPieces(tokenizer, tail, spaces_between_special_tokens)

    def push(self, ids: Sequence[int]) -> str:
        """The text that became certain with these ids."""
        if len(ids) == 1:
            return "" if ids[0] in self._skipped else self._pieces.push(ids[0])
        return "".join([self._pieces.push(id) for id in ids if id not in self._skipped])

    def finish(self) -> str:
        """What was held back; nothing may be pushed afterwards."""
        return self._pieces.finish()


class _BytePieces:
    """Bytes of tokens through an incremental UTF-8 decoder; between characters, a token of whole ones needs none.

    ``_is_between``: the text has begun and the decoder holds no part of a character.
    """

    __slots__ = ("_bytes", "_decoder", "_first", "_is_between", "_tokenizer", "_whole_text")

    def __init__(self, tokenizer: Tokenizer, prompt_tail: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._bytes = tokenizer.token_bytes
        self._whole_text = tokenizer.whole_text
        self._first = "keep" if prompt_tail else tokenizer.scheme.first
        self._decoder = _Utf8Decoder("replace")
        for id in prompt_tail:
            self._decoder.decode(self._bytes(id))
        self._is_between = self._has_begun()

    def push(self, id: int) -> str:
        if self._is_between and (text := self._whole_text(id)) is not None:
            return text
        data = self._bytes(id)
        if self._first == "drop_all":
            data = self._tokenizer.token_bytes_at_start(id)
            self._first = "keep"
        elif self._first == "strip_one" and data:
            data = data.removeprefix(b" ")
            self._first = "keep"
        text = self._decoder.decode(data)
        self._is_between = self._has_begun()
        return text

    def _has_begun(self) -> bool:
        return self._first == "keep" and not self._decoder.getstate()[0]

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class _WindowPieces:
    """The last tokens decoded together: ``_ids[:_told]`` are out already and only give context."""

    __slots__ = ("_ids", "_joins_specials", "_tokenizer", "_told")

    def __init__(self, tokenizer: Tokenizer, prompt_tail: Sequence[int], has_spaces_between: bool) -> None:
        self._tokenizer = tokenizer
        self._ids = list(prompt_tail)
        self._told = len(self._ids)
        self._joins_specials = not has_spaces_between

    def push(self, id: int) -> str:
        self._ids.append(id)
        return self._new_text(is_last=False)

    def finish(self) -> str:
        return self._new_text(is_last=True)

    def _new_text(self, *, is_last: bool) -> str:
        before = self._tokenizer.decode_window(self._ids[: self._told])
        text = self._tokenizer.decode_window(self._ids)
        if text.endswith("\ufffd") and not is_last and len(self._ids) - self._told < _MAX_HELD:
            return ""
        new = text[len(before) :]
        if (
            self._joins_specials
            and len(self._ids) - self._told == 1
            and self._told
            and self._are_special(self._ids[-2:])
        ):
            new = new.removeprefix(" ")
        # An id that writes nothing gives no context: keep an older one beside it.
        if new or not self._told:
            self._ids = self._ids[self._told :]
        self._told = len(self._ids)
        return new

    def _are_special(self, ids: Sequence[int]) -> bool:
        return all(id in self._tokenizer.added_ids for id in ids)
