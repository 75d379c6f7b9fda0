"""Write a tokenizer of any size for a checkpoint of random weights, so that a server can be measured with it.

    python benchmarks/write_tokenizer.py CHECKPOINT

It has as many entries as the checkpoint's ``config.json`` says: three special ones, the 256 bytes, pairs of small
letters, and pairs of pairs. So every id is text, and decoding costs what it does with a trained tokenizer of that size.
Needs only Python. A byte-level BPE as the library ``tokenizers`` reads it.

Not here: the weights (write_checkpoint.py).
"""

from __future__ import annotations

import argparse
import itertools
import json
import string
from pathlib import Path

SPECIAL = ("<pad>", "<s>", "</s>")


def byte_letters() -> list[str]:
    """The printable letter that stands for each byte in a byte-level BPE: its own, or one above 255."""
    own = {*range(33, 127), *range(161, 173), *range(174, 256)}
    above = itertools.count(256)
    return [chr(byte if byte in own else next(above)) for byte in range(256)]


def tokenizer(size: int) -> dict[str, object]:
    """The content of ``tokenizer.json`` with ``size`` entries.

    Raises: ValueError when so many do not exist.
    """
    pairs = ["".join(pair) for pair in itertools.product(string.ascii_lowercase, repeat=2)]
    joined = itertools.chain(
        itertools.product(string.ascii_lowercase, repeat=2),
        itertools.product(pairs, repeat=2),
    )
    entries = [*SPECIAL, *byte_letters()]
    merges = list(itertools.islice(joined, max(0, size - len(entries))))
    entries += ["".join(merge) for merge in merges]
    if len(entries) != size:
        raise ValueError(f"A tokenizer of this kind has {len(SPECIAL) + 256} entries at least, not {size}.")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": place, "content": text, **flags} for place, text in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {text: place for place, text in enumerate(entries)},
            "merges": [list(merge) for merge in merges],
        },
    }


def write(checkpoint: Path) -> None:
    """``tokenizer.json`` and ``tokenizer_config.json`` beside the checkpoint's ``config.json``."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
    }
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer(config["vocab_size"])), encoding="utf-8")
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder with a config.json")
    write(parser.parse_args().checkpoint)


if __name__ == "__main__":
    main()
