"""A sentencepiece ``tokenizer.model`` becomes a tokenizer of the ``tokenizers`` library: BPE and unigram models.

The file is a protocol buffer; the few fields that matter are read here, so no further package is needed at run time.
What cannot be said exactly in the other library is refused with a remedy.

Not here: tokenizer.json (tokenizer.py).
Door: convert.
Source: the message ModelProto in sentencepiece_model.proto of the sentencepiece project.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace
from tokenizers import AddedToken, Regex, decoders, models, normalizers, processors
from tokenizers import Tokenizer as RawTokenizer

from quire.errors import CheckpointError
from quire.text.tokenizer_files import TokenizerConfig
from quire.text.vocabulary import SPACE_MARK

MAX_MODEL_BYTES = 128 * 1024 * 1024
REMEDY = "Write a tokenizer.json with transformers' AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"

_UNIGRAM, _BPE = 1, 2
_UNKNOWN, _CONTROL, _USER, _UNUSED = 2, 3, 4, 5


class Piece(Struct, frozen=True):
    """One entry of the vocabulary; ``kind`` as the file numbers them (1 normal, 6 byte)."""

    text: str
    score: float
    kind: int


class Model(Struct, frozen=True):
    """What a model file says."""

    pieces: tuple[Piece, ...]
    algorithm: int = _UNIGRAM
    has_byte_fallback: bool = False
    is_space_suffix: bool = False
    unk_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    charsmap: bytes = b""
    adds_dummy_prefix: bool = True
    removes_extra_spaces: bool = True
    escapes_spaces: bool = True


def convert(path: Path, config: TokenizerConfig) -> tuple[RawTokenizer, TokenizerConfig]:
    """The tokenizer a model file describes, and the config completed with its control tokens.

    BOS is added before a text unless ``add_bos_token`` is false, EOS after it only if ``add_eos_token`` is true.

    Raises: CheckpointError in one line for a damaged file and for a model that cannot be converted exactly.
    """
    model = _read(path)
    if model.algorithm not in (_UNIGRAM, _BPE):
        raise CheckpointError(
            f"{path}: a word or character model; only BPE and unigram models are converted. {REMEDY}."
        )
    if model.is_space_suffix or not model.escapes_spaces:
        raise CheckpointError(f"{path}: its spaces are not written as prefixes of words. {REMEDY}.")
    if not 0 <= model.unk_id < len(model.pieces):
        raise CheckpointError(f"{path}: no unknown piece among {len(model.pieces)}. {REMEDY}.")
    if model.adds_dummy_prefix and any(piece.kind == _USER for piece in model.pieces):
        # The other library would write a space after each such symbol.
        raise CheckpointError(f"{path}: it has symbols of its user and adds a space before a text. {REMEDY}.")
    raw = RawTokenizer(_bpe(model) if model.algorithm == _BPE else _unigram(model))
    raw.normalizer = _normalizer(model)
    chain: list[object] = [decoders.Replace(SPACE_MARK, " ")]
    chain += [decoders.ByteFallback()] if model.has_byte_fallback else []
    chain += [decoders.Fuse()]
    chain += [decoders.Strip(content=" ", left=1, right=0)] if model.adds_dummy_prefix else []
    raw.decoder = decoders.Sequence(chain)
    control = {id: piece for id, piece in enumerate(model.pieces) if piece.kind in (_CONTROL, _UNKNOWN)}
    raw.add_special_tokens([AddedToken(piece.text, normalized=False, special=True) for piece in control.values()])
    users = [piece.text for piece in model.pieces if piece.kind == _USER]
    raw.add_tokens([AddedToken(text.replace(SPACE_MARK, " "), normalized=False) for text in users])
    raw.post_processor = _post_processor(model, config)
    return raw, _completed(model, config)


def _bpe(model: Model) -> models.Model:
    vocabulary = {piece.text: id for id, piece in enumerate(model.pieces)}
    kinds = {piece.text: piece.kind for piece in model.pieces}
    mergeable = {
        text: id for text, id in vocabulary.items() if kinds[text] not in (_CONTROL, _UNKNOWN, _USER, _UNUSED, 6)
    }
    merges: list[tuple[float, int, str, str]] = []
    for text, id in mergeable.items():
        for cut in range(1, len(text)):
            if text[:cut] in mergeable and text[cut:] in mergeable:
                merges.append((-model.pieces[id].score, id, text[:cut], text[cut:]))
    # The best score merges first; of equal ones the leftmost pair, in both libraries.
    merges.sort(key=lambda merge: (merge[0], merge[1], len(merge[2])))
    return models.BPE(
        vocab=vocabulary,
        merges=[(left, right) for _, _, left, right in merges],
        unk_token=model.pieces[model.unk_id].text,
        fuse_unk=True,
        byte_fallback=model.has_byte_fallback,
    )


def _unigram(model: Model) -> models.Model:
    # Control and user pieces are cut out before; a score that can never win keeps their spelling out of ordinary text.
    worst = min((piece.score for piece in model.pieces), default=0.0)
    scores = [(piece.text, piece.score if piece.kind in (1, 6) else worst - 1000.0) for piece in model.pieces]
    return models.Unigram(vocab=scores, unk_id=model.unk_id, byte_fallback=model.has_byte_fallback)


def _normalizer(model: Model) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if model.charsmap:
        steps.append(normalizers.Precompiled(model.charsmap))
    if model.removes_extra_spaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if model.adds_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE_MARK))
    steps.append(normalizers.Replace(" ", SPACE_MARK))
    return normalizers.Sequence(steps)


def _post_processor(model: Model, config: TokenizerConfig) -> processors.PostProcessor:
    around: list[tuple[str, int]] = []
    single = "$A"
    if config.adds_bos is not False and 0 <= model.bos_id < len(model.pieces):
        text = model.pieces[model.bos_id].text
        single, around = f"{text} {single}", [(text, model.bos_id)]
    if config.adds_eos and 0 <= model.eos_id < len(model.pieces):
        text = model.pieces[model.eos_id].text
        single, around = f"{single} {text}", [*around, (text, model.eos_id)]
    return processors.TemplateProcessing(single=single, pair=f"{single} $B", special_tokens=around)


def _completed(model: Model, config: TokenizerConfig) -> TokenizerConfig:
    named = {"bos_token": model.bos_id, "eos_token": model.eos_id, "unk_token": model.unk_id}
    spelled = {name: model.pieces[id].text for name, id in named.items() if 0 <= id < len(model.pieces)}
    return replace(config, special_tokens=spelled | config.special_tokens)


def _read(path: Path) -> Model:
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise CheckpointError(f"{path}: {path.stat().st_size} bytes; at most {MAX_MODEL_BYTES} are read.")
        model = _parse(path.read_bytes())
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise CheckpointError(
            f"{path}: not a sentencepiece model (a tiktoken file bears the same name). {REMEDY}."
        ) from error
    if not model.pieces:
        raise CheckpointError(f"{path}: a sentencepiece model without pieces. {REMEDY}.")
    return model


def _parse(data: bytes) -> Model:
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(data):
        if number == 1:
            entry = dict(_fields(_bytes(value)))
            (score,) = struct.unpack("<f", _bytes(entry.get(2, b"\0\0\0\0")))
            pieces.append(Piece(_bytes(entry.get(1, b"")).decode("utf-8"), score, _int(entry.get(3, 1))))
        elif number == 2:
            trainer = dict(_fields(_bytes(value)))
        elif number == 3:
            normalizer = dict(_fields(_bytes(value)))
    return Model(
        pieces=tuple(pieces),
        algorithm=_int(trainer.get(3, _UNIGRAM)),
        is_space_suffix=bool(trainer.get(24, 0)),
        has_byte_fallback=bool(trainer.get(35, 0)),
        unk_id=_int(trainer.get(40, 0)),
        bos_id=_int(trainer.get(41, 1)),
        eos_id=_int(trainer.get(42, 2)),
        charsmap=_bytes(normalizer.get(2, b"")),
        adds_dummy_prefix=bool(normalizer.get(3, 1)),
        removes_extra_spaces=bool(normalizer.get(4, 1)),
        escapes_spaces=bool(normalizer.get(5, 1)),
    )


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    raise ValueError("bytes are expected")


def _int(value: int | bytes) -> int:
    """Negative numbers (an id of -1) are written as 64-bit two's complement."""
    if isinstance(value, bytes):
        raise ValueError("a number is expected")
    return value - 2**64 if value >= 2**63 else value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of one message: numbers as int, everything else (fixed-width ones too) as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        else:
            length = {1: 8, 5: 4}[wire] if wire in (1, 5) else -1
        if length < 0 or at + length > len(data):
            raise ValueError("broken message")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
