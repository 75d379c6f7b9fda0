"""Control tokens are the template's to write: a client's text that spells one is encoded as ordinary text.

A template renders one string, so a message that says ``<|im_end|>`` would end a turn. Therefore, when a client's
string spells a control token: the first character of each spelling is replaced by a mark (a private-use character
that no string of the request holds), the template is rendered, and the result is encoded by a second tokenizer in
which every control token has a secret name. The template's own control tokens are given these names, the marks become
the characters they stand for, and one pass encodes it all; nothing is cut, so ordinary text gets the very ids it
always gets. A string that ends with the beginning of a spelling is marked as well, so that two strings cannot spell a
token together.

A control token is an added token that is special, or that is spelled with bars (some checkpoints do not declare their
roles' tokens special). Others, such as ``<think>``, may be written by clients: templates look for them in messages.

Not here: rendering (template.py), the order of work (prompt.py).
Door: ControlTokens.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer as RawTokenizer

from quire.errors import CheckpointError, InvalidValue

_BARS = ("<|", "|>", "\uff5c")
"""The last is the full-width bar."""
_MARKS = range(0x100000, 0x10FF00)
_ESCAPED_MARK = re.compile(r"\\u(db[c-f][0-9a-f])\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)


class ControlTokens:
    """The control tokens of one tokenizer. The second tokenizer is made when first needed, as long as loading takes."""

    def __init__(self, raw: RawTokenizer) -> None:
        self._raw = raw
        self._names: dict[str, str] = {}
        self._renamed: RawTokenizer | None = None
        self._lock = threading.Lock()
        is_normalized = False
        nonce = secrets.token_hex(8)
        for id, token in raw.get_added_tokens_decoder().items():
            spelling = token.content
            is_control = token.special or any(bar in spelling for bar in _BARS)
            if is_control and spelling.strip() and not token.single_word:
                # Unguessable, so that no client can write it.
                self._names[spelling] = f"\U0010fffd{nonce}{id:x}\U0010fffd"
                is_normalized = is_normalized or (token.normalized and raw.normalizer is not None)
        self._suspects_all = is_normalized
        """A normalizer may turn other text into a spelling; then every chat goes the careful way."""
        self._starts = tuple({spelling[:2] for spelling in self._names})
        self._beginnings = frozenset(spelling[:end] for spelling in self._names for end in range(1, len(spelling)))
        self._longest = max(map(len, self._names), default=0)
        longest_first = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) if longest_first else r"(?!)")

    def are_spelled_in(self, values: Iterable[object]) -> bool:
        """Whether a string anywhere inside these JSON-like values spells a control token or ends with the beginning
        of one.
        """
        if self._suspects_all:
            return True
        return any(self._is_suspect(text) for text in _strings(values))

    def marks_for(self, values: Iterable[object]) -> Marks:
        """Marks that no string inside these values holds."""
        used: set[str] = set()
        for text in _strings(values):
            used.update(text)
        free = (chr(code) for code in _MARKS if chr(code) not in used)
        try:
            return Marks({next(free): first for first in sorted({spelling[0] for spelling in self._names})})
        except (StopIteration, RuntimeError) as error:
            raise InvalidValue("The messages use every private-use character there is.", param="messages") from error

    def mark(self, value: object, marks: Marks) -> object:
        """A copy of a JSON-like value in which no string spells a control token."""
        if isinstance(value, str):
            return self._mark_text(value, marks) if self._is_suspect(value) else value
        if isinstance(value, dict):
            return {self.mark(key, marks): self.mark(item, marks) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.mark(item, marks) for item in value]
        return value

    def encode(self, rendered: str, marks: Marks, *, add_special_tokens: bool = False) -> list[int]:
        """Ids of a rendered text: what is spelled in full is a control token, what holds a mark is not."""
        named = self._pattern.sub(lambda match: self._names[match.group()], rendered)
        batch = self._second().encode_batch_fast([marks.restore(named)], add_special_tokens=add_special_tokens)
        return list(batch[0].ids)

    def encode_ordinary(self, text: str) -> list[int]:
        """Ids of a text in which every spelling of a control token is ordinary."""
        return list(self._second().encode_batch_fast([text], add_special_tokens=False)[0].ids)

    def _is_suspect(self, text: str) -> bool:
        if any(start in text for start in self._starts) and self._pattern.search(text):
            return True
        return self._open_end(text) > 0

    def _open_end(self, text: str) -> int:
        """Length of the longest beginning of a spelling that ends the text (spaces after it may be trimmed by a
        template).
        """
        tail = text[-self._longest - 64 :].rstrip()
        for length in range(min(self._longest - 1, len(tail)), 0, -1):
            if tail[-length:] in self._beginnings:
                return length
        return 0

    def _mark_text(self, text: str, marks: Marks) -> str:
        text = self._pattern.sub(lambda match: marks.of[match.group()[0]] + match.group()[1:], text)
        if length := self._open_end(text):
            start = len(text.rstrip()) - length
            text = text[:start] + marks.of[text[start]] + text[start + 1 :]
        return text

    def _second(self) -> RawTokenizer:
        with self._lock:
            if self._renamed is None:
                renamed = RawTokenizer.from_str(_renamed_json(self._raw.to_str(), self._names))
                for spelling, name in self._names.items():
                    if renamed.token_to_id(name) != self._raw.token_to_id(spelling):
                        raise CheckpointError(
                            f"The tokenizer's special token {spelling!r} changes its id when it is renamed."
                        )
                self._renamed = renamed
            return self._renamed


class Marks:
    """Private-use characters of one request, each standing for a first character of spellings."""

    def __init__(self, meaning: dict[str, str]) -> None:
        self.of = {char: mark for mark, char in meaning.items()}
        self._table = str.maketrans(meaning)

    def restore(self, text: str) -> str:
        """The text with what the marks stand for."""
        return text.translate(self._table)


def unescape_marks(dumped: str) -> str:
    """JSON in ASCII writes a mark as two escapes; this undoes it, so that it can be restored."""
    return _ESCAPED_MARK.sub(lambda match: json.loads(f'"{match.group()}"'), dumped)


def _strings(values: Iterable[object]) -> Iterator[str]:
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting.extend(value)
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)


def _renamed_json(source: str, names: dict[str, str]) -> str:
    """A tokenizer.json in which control tokens have other spellings and the same ids; no text of the old spelling can
    become them.
    """
    content = json.loads(source)
    for token in content["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = content["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(piece, piece): id for piece, id in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        pairs = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
        model["merges"] = [[a, b] for a, b in pairs if not {a, b, a + b} & names.keys()]
    return json.dumps(content, ensure_ascii=False)
