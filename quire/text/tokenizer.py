"""Text to token ids and back, for every checkpoint with a tokenizer.json or a sentencepiece model.

tokenizer.json decides what is added around a text (its post-processor): ``add_bos_token`` of tokenizer_config.json
does not change it. ``clean_up_tokenization_spaces`` is not followed: decoded text is what the tokens spell.

Not here: reading the other files (tokenizer_files.py), decoding step by step (detokenizer.py), chats (prompt.py).
Door: Tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken
from tokenizers import Tokenizer as RawTokenizer

from quire.errors import CheckpointError, InvalidValue
from quire.text.control import ControlTokens
from quire.text.sentencepiece_model import convert
from quire.text.tokenizer_files import NAMED_TOKENS, TokenizerConfig, read_tokenizer_config
from quire.text.vocabulary import SPACE_MARK, read_scheme

REMEDY = (
    "Write one with transformers' AutoTokenizer.from_pretrained(folder).save_pretrained(folder), "
    "or start with --skip-tokenizer-init"
)


class Tokenizer:
    """One checkpoint's tokenizer. Nothing changes after loading (but caches), so threads may share it.

    ``special_ids``: what ``skip_special_tokens`` leaves out. ``added_ids``: all tokens beside the model's vocabulary,
    special or not. ``num_tokens``: one more than the largest id.
    """

    def __init__(self, raw: RawTokenizer, config: TokenizerConfig) -> None:
        raw.no_truncation()
        raw.no_padding()
        self._raw = raw
        self.config = config
        added = raw.get_added_tokens_decoder()
        self.special_ids = frozenset(id for id, token in added.items() if token.special)
        self.added_ids = frozenset(added)
        self.scheme = read_scheme(json.loads(raw.decoder.__getstate__()) if raw.decoder is not None else None)
        vocabulary = raw.get_vocab()
        self.num_tokens = max(vocabulary.values(), default=-1) + 1
        self.max_piece_chars = max(map(len, vocabulary), default=1)
        """No token spells more characters than this."""
        self.bos_token_id = self._named_id("bos_token")
        self.eos_token_id = self._named_id("eos_token")
        self.pad_token_id = self._named_id("pad_token")
        self._bytes: dict[int, bytes] = {}
        self._texts: dict[int, str | None] = {}

    @classmethod
    def load(cls, path: str) -> Tokenizer:
        """Loads the tokenizer of a folder.

        Raises: CheckpointError in one line, with a remedy, when there is none or when it is damaged.
        """
        folder = Path(path)
        config = read_tokenizer_config(folder)
        if (folder / "tokenizer.json").is_file():
            raw = _from_json(folder / "tokenizer.json")
        elif (folder / "tokenizer.model").is_file():
            raw, config = convert(folder / "tokenizer.model", config)
        else:
            raise CheckpointError(f"{folder}: neither tokenizer.json nor tokenizer.model. {REMEDY}.")
        _add_tokens(raw, config)
        return cls(raw, config)

    @cached_property
    def control(self) -> ControlTokens:
        """The tokens that only a template may write."""
        return ControlTokens(self._raw)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Ids of a text; the text of a special token is that token. Other threads run meanwhile.

        Raises: InvalidValue for text that is not Unicode (a lone surrogate).
        """
        check_unicode(text)
        # The batch call releases the interpreter lock, the single one does not.
        return list(self._raw.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids)

    def encode_ordinary(self, text: str) -> list[int]:
        """Ids of a text in which nothing is a control token and nothing is added."""
        check_unicode(text)
        return self.control.encode_ordinary(text)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ids. Ids that the vocabulary does not have write nothing; bytes that are not UTF-8 become
        U+FFFD.
        """
        skipped = self.special_ids if skip_special_tokens else frozenset[int]()
        kept = [id for id in ids if id not in skipped]
        if not self.scheme.is_table:
            return self.decode_window(kept)
        data = [self.token_bytes(id) for id in kept]
        if self.scheme.first == "drop_all" and kept:
            data[0] = self.token_bytes_at_start(kept[0])
        whole = b"".join(data)
        return (whole.removeprefix(b" ") if self.scheme.first == "strip_one" else whole).decode("utf-8", "replace")

    def decode_window(self, ids: Sequence[int]) -> str:
        """The decoder chain's own text of ids, special ones included."""
        return self._raw.decode([id for id in ids if 0 <= id < self.num_tokens], skip_special_tokens=False)

    def token(self, id: int) -> str:
        """The piece as the vocabulary writes it; empty for an id that it does not have."""
        return (self._raw.id_to_token(id) or "") if 0 <= id < self.num_tokens else ""

    def token_bytes(self, id: int) -> bytes:
        """The bytes a token stands for in the middle of a text; for a decoder chain that is no table, those of its
        piece.
        """
        found = self._bytes.get(id)
        if found is None:
            found = self.scheme.piece_bytes(self.token(id))
            if 0 <= id < self.num_tokens:
                self._bytes[id] = found
        return found

    def whole_text(self, id: int) -> str | None:
        """The text of a token in the middle of a text when its bytes are whole characters; None when they are not."""
        try:
            return self._texts[id]
        except KeyError:
            pass
        try:
            found = self.token_bytes(id).decode("utf-8")
        except UnicodeDecodeError:
            found = None
        if 0 <= id < self.num_tokens:
            self._texts[id] = found
        return found

    def token_bytes_at_start(self, id: int) -> bytes:
        """The bytes of the first token of a text under a Metaspace decoder, which drops its space marks."""
        return self.token(id).replace(SPACE_MARK, "").encode("utf-8", "surrogatepass")

    def token_text(self, id: int) -> str:
        """A token's own text, for display beside a logprob: part of a character shows as U+FFFD."""
        return self.token_bytes(id).decode("utf-8", "replace")

    def _named_id(self, name: str) -> int | None:
        spelling = self.config.special_tokens.get(name)
        return None if spelling is None else self._raw.token_to_id(spelling)


def _from_json(path: Path) -> RawTokenizer:
    try:
        return RawTokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: damaged or of an unknown form ({reason}). Fetch the file again.") from error


def _add_tokens(raw: RawTokenizer, config: TokenizerConfig) -> None:
    """Tokens that the other files declare and the tokenizer does not have yet, or not with these properties."""
    known = {(id, repr(token)) for id, token in raw.get_added_tokens_decoder().items()}
    missing = [token for id, token in sorted(config.added.items()) if (id, repr(token)) not in known]
    if missing:
        raw.add_tokens(missing)
    named = [config.special_tokens[name] for name in NAMED_TOKENS if name in config.special_tokens]
    named += [spelling for name, spelling in config.special_tokens.items() if name not in NAMED_TOKENS]
    named += config.extra_special_tokens
    declared = {token.content: token for token in raw.get_added_tokens_decoder().values()}
    raw.add_special_tokens(
        [
            _as_special(declared.get(spelling) or AddedToken(spelling, normalized=False))
            for spelling in dict.fromkeys(named)
        ]
    )


def _as_special(token: AddedToken) -> AddedToken:
    return AddedToken(
        token.content,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=True,
    )


def check_unicode(text: str, param: str = "prompt") -> None:
    """Raises InvalidValue for a lone surrogate, which JSON can write and UTF-8 cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidValue(
            f"The text holds a lone surrogate at character {error.start}; it is not Unicode.", param=param
        ) from error
