"""How token ids become bytes: which decoder chains can be replaced by a table of bytes, and that table.

A decoder chain of kind ``bytes`` is one where the text of a sequence is nothing but its tokens' bytes one after the
other, decoded as UTF-8, with at most a rule for the very first visible token. Byte-level BPE, byte-fallback BPE and
Metaspace are such; WordPiece is not.

Not here: state between tokens (detokenizer.py).
Door: read_scheme, Scheme.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

First = Literal["keep", "strip_one", "drop_all"]
"""What happens to spaces at the start of the whole text."""

_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>", re.ASCII)
SPACE_MARK = "▁"


class Scheme(Struct, frozen=True):
    """How pieces spell bytes. ``is_table``: whether a table of bytes decodes whole sequences."""

    is_table: bool
    is_byte_level: bool = False
    has_byte_pieces: bool = False
    has_space_marks: bool = False
    first: First = "keep"

    def piece_bytes(self, piece: str) -> bytes:
        """The bytes one piece of the vocabulary stands for, in the middle of a text."""
        if self.is_byte_level:
            try:
                return bytes(_BYTE_OF_CHAR[char] for char in piece)
            except KeyError:
                return _utf8(piece)
        if self.has_byte_pieces and (match := _BYTE_PIECE.fullmatch(piece)):
            return bytes((int(match.group(1), 16),))
        return _utf8(piece.replace(SPACE_MARK, " ") if self.has_space_marks else piece)


def read_scheme(decoder: object) -> Scheme:
    """The scheme of a tokenizer.json's ``decoder`` entry; chains that are not understood are no table."""
    links = _links(decoder)
    kinds = [link.get("type") for link in links]
    if kinds == ["ByteLevel"]:
        return Scheme(is_table=True, is_byte_level=True)
    if kinds == ["Metaspace"] and links[0].get("replacement") == SPACE_MARK:
        scheme = links[0].get("prepend_scheme", "always")
        return Scheme(is_table=True, has_space_marks=True, first="keep" if scheme == "never" else "drop_all")
    return _spelled_chain(links) or Scheme(
        is_table=False, has_byte_pieces="ByteFallback" in kinds, has_space_marks="Metaspace" in kinds
    )


def _links(decoder: object) -> list[dict[str, object]]:
    if not isinstance(decoder, dict):
        return []
    inner = decoder.get("decoders")
    if decoder.get("type") == "Sequence" and isinstance(inner, list):
        return [link for entry in inner for link in _links(entry)]
    return [decoder]


def _spelled_chain(links: list[dict[str, object]]) -> Scheme | None:
    """Replace(mark -> space), ByteFallback?, Fuse, Strip(one space at the start)?: what sentencepiece models become."""
    marks = {"type": "Replace", "pattern": {"String": SPACE_MARK}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    rest = list(links)
    if not rest or rest.pop(0) != marks:
        return None
    has_bytes = bool(rest) and rest[0] == {"type": "ByteFallback"}
    rest = rest[1:] if has_bytes else rest
    is_fused = bool(rest) and rest[0] == {"type": "Fuse"}
    rest = rest[1:] if is_fused else rest
    if rest == [] or (is_fused and rest == [strip]):
        return Scheme(
            is_table=True, has_byte_pieces=has_bytes, has_space_marks=True, first="strip_one" if rest else "keep"
        )
    return None


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _byte_of_char() -> dict[str, int]:
    """The printable stand-ins of byte-level BPE: printable Latin-1 stands for itself, other bytes for 256, 257, ...
    in order.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    table |= {chr(256 + index): byte for index, byte in enumerate(others)}
    return table


_BYTE_OF_CHAR = _byte_of_char()
