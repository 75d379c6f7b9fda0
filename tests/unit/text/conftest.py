"""Small real tokenizers of four kinds, trained here, written as checkpoints' folders, loaded as an engine does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as RawTokenizer

from quire.text.tokenizer import Tokenizer

CORPUS = [
    "The quire was a small book of folded pages, and the singers in the choir kept it on a wooden stand.",
    "A tokenizer cuts text into pieces; a detokenizer puts the pieces together again, and nothing may be lost.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Où est passé l'été, déjà vu?",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "東京の図書館で本を読みます。今日は天気がいいですね。我们在图书馆看书。한국어 문장도 있습니다.",
    "שלום עולם, זה משפט בעברית. مرحبا بالعالم، هذه جملة عربية.",
    "def add(a, b):\n    return a + b  # numbers 0123456789\n\n\tprint('ok', {\"key\": [1, 2, 3]})",
    "Emoji: 😀 👍 👩‍👩‍👧‍👦 🏳️‍🌈 and combining e\u0301 n\u0303 marks.",
] * 3

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _token(text: str, special: bool = True) -> AddedToken:
    return AddedToken(text, normalized=False, special=special)


def byte_level() -> RawTokenizer:
    raw = RawTokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=480, initial_alphabet=alphabet, show_progress=False))
    raw.add_tokens([_token("<|endoftext|>"), _token("<|im_start|>"), _token("<|im_end|>")])
    raw.add_tokens([_token("<think>", special=False), _token("</think>", special=False)])
    return raw


def byte_fallback() -> RawTokenizer:
    """As the sentencepiece BPE models of the Llama 2 kind are written."""
    special = ["<unk>", "<s>", "</s>"]
    raw = RawTokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    byte_pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=560, special_tokens=[*special, *byte_pieces], limit_alphabet=70, show_progress=False
    )
    raw.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # for training: no piece spans two words
    spaced = [line.replace(" ", "▁") for line in CORPUS]
    raw.train_from_iterator(spaced, trainer)
    written = json.loads(raw.to_str())
    written["pre_tokenizer"] = None
    written["added_tokens"] = [token for token in written["added_tokens"] if token["content"] in special]
    raw = RawTokenizer.from_str(json.dumps(written))
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    return raw


def unigram() -> RawTokenizer:
    raw = RawTokenizer(models.Unigram())
    raw.normalizer = normalizers.NFKC()
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=420, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False
    )
    raw.train_from_iterator(CORPUS, trainer)
    return raw


def word_piece() -> RawTokenizer:
    raw = RawTokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    raw.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=420, special_tokens=special, show_progress=False)
    )
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return raw


CONFIGS: dict[str, tuple[Callable[[], RawTokenizer], dict[str, object]]] = {
    "byte_level": (byte_level, {"eos_token": "<|im_end|>", "chat_template": CHATML, "pad_token": "<|endoftext|>"}),
    "byte_fallback": (byte_fallback, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
    "unigram": (unigram, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
    "word_piece": (word_piece, {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint's folder for each kind of tokenizer."""
    made: dict[str, Path] = {}
    for name, (build, config) in CONFIGS.items():
        folder = tmp_path_factory.mktemp(name)
        build().save(str(folder / "tokenizer.json"))
        written = {"tokenizer_class": "PreTrainedTokenizerFast", **config}
        (folder / "tokenizer_config.json").write_text(json.dumps(written), encoding="utf-8")
        made[name] = folder
    return made


@pytest.fixture(scope="session")
def tokenizers(folders: dict[str, Path]) -> dict[str, Tokenizer]:
    return {name: Tokenizer.load(str(folder)) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def raws(folders: dict[str, Path]) -> dict[str, RawTokenizer]:
    """The library's own tokenizers: the oracle of decoding."""
    return {name: RawTokenizer.from_file(str(folder / "tokenizer.json")) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def tokenizer(tokenizers: dict[str, Tokenizer]) -> Tokenizer:
    """The byte-level one, with a chat template."""
    return tokenizers["byte_level"]


@pytest.fixture(params=sorted(CONFIGS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)
