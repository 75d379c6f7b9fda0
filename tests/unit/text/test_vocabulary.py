from __future__ import annotations

import pytest

from quire.text.vocabulary import read_scheme

MARKS = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def chain(*links: dict[str, object]) -> dict[str, object]:
    return {"type": "Sequence", "decoders": list(links)}


@pytest.mark.parametrize(
    ("decoder", "is_table", "first"),
    [
        ({"type": "ByteLevel"}, True, "keep"),
        (chain({"type": "ByteLevel"}), True, "keep"),
        (chain(MARKS, {"type": "ByteFallback"}, {"type": "Fuse"}, STRIP), True, "strip_one"),
        (chain(MARKS, {"type": "ByteFallback"}, {"type": "Fuse"}), True, "keep"),
        (chain(MARKS, {"type": "Fuse"}), True, "keep"),
        ({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}, True, "drop_all"),
        ({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"}, True, "keep"),
        ({"type": "WordPiece", "prefix": "##", "cleanup": True}, False, "keep"),
        (chain(MARKS, {"type": "ByteFallback"}, STRIP), False, "keep"),
        (chain(MARKS, {"type": "Fuse"}, {**STRIP, "start": 2}), False, "keep"),
        (chain({"type": "CTC"}), False, "keep"),
        (None, False, "keep"),
    ],
)
def test_only_chains_that_are_understood_become_a_table(
    decoder: dict[str, object] | None, is_table: bool, first: str
) -> None:
    scheme = read_scheme(decoder)
    assert (scheme.is_table, scheme.first) == (is_table, first)


def test_pieces_spell_bytes_in_their_schemes_way() -> None:
    byte_level = read_scheme({"type": "ByteLevel"})
    assert byte_level.piece_bytes("Ġaé") == b" a\xe9"
    assert byte_level.piece_bytes("<\uff5cx\uff5c>") == "<\uff5cx\uff5c>".encode()
    fallback = read_scheme(chain(MARKS, {"type": "ByteFallback"}, {"type": "Fuse"}))
    assert fallback.piece_bytes("<0xF0>") == b"\xf0"
    assert fallback.piece_bytes("<0xf0>") == b"<0xf0>"
    assert fallback.piece_bytes("▁a▁") == b" a "
