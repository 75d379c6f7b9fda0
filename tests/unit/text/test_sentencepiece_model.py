from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quire.errors import CheckpointError
from quire.text.tokenizer import Tokenizer

spm = pytest.importorskip("sentencepiece")

CORPUS = [
    "The quire was a small book of folded pages, and the singers kept it on a wooden stand.",
    "A tokenizer cuts text into pieces; a detokenizer puts the pieces together again.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "aaaa aaaaa banana bananas ananas, 0123456789 and 2024-05-06",
    "Every singer turns the same page at the same moment, though no one gives a sign.",
    "Letters, numbers and marks: each has its place; nobody forgets where it stood before.",
    "When the rain had stopped, people walked along the river and talked about the harvest.",
    "Quick thinking, quiet voices, questions and quarrels filled the quarter until midnight.",
] * 6
KINDS = {
    "llama": {
        "model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False, "vocab_size": 460,
    },
    "bpe_nfkc": {"model_type": "bpe", "byte_fallback": True, "vocab_size": 460, "character_coverage": 0.99},
    "bpe_users": {
        "model_type": "bpe", "byte_fallback": True, "vocab_size": 460, "normalization_rule_name": "identity",
        "add_dummy_prefix": False, "remove_extra_whitespaces": False, "user_defined_symbols": ["<user>"],
    },
    "no_prefix": {
        "model_type": "bpe", "byte_fallback": True, "vocab_size": 460, "add_dummy_prefix": False,
        "normalization_rule_name": "identity", "remove_extra_whitespaces": False,
    },
    "unigram": {"model_type": "unigram", "vocab_size": 130},
    "unigram_bytes": {"model_type": "unigram", "byte_fallback": True, "vocab_size": 385},
}  # fmt: skip


def train(folder: Path, **options: object) -> Path:
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, minloglevel=2, num_threads=1, **options
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return folder


@pytest.fixture(scope="module", params=sorted(KINDS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, Tokenizer]:
    folder = train(tmp_path_factory.mktemp(request.param), **KINDS[request.param])
    return spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")), Tokenizer.load(str(folder))


@pytest.mark.parametrize(
    "text",
    [
        "The small book", " leading", "trailing ", "two  spaces   three", "", " ", "   ", "a\nb\tc", "aaaaaaa",
        "Zwölf\u00a0x", "東京 😀", "ﬁne ① Ⅳ \uff46\uff55", "e\u0301", "x" * 300, "\n", "\r\n", "a <user> b",
        "\u2581mark",
    ],
)  # fmt: skip
def test_ids_are_those_of_sentencepiece(pair: tuple[object, Tokenizer], text: str) -> None:
    reference, tokenizer = pair
    assert tokenizer.encode(text, add_special_tokens=False) == reference.encode(text)  # type: ignore[attr-defined]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.one_of(st.sampled_from("aabn  .,\n0123é"), st.characters(codec="utf-8")), max_size=30))
def test_ids_of_any_text_are_those_of_sentencepiece(pair: tuple[object, Tokenizer], text: str) -> None:
    reference, tokenizer = pair
    assert tokenizer.encode(text, add_special_tokens=False) == reference.encode(text)  # type: ignore[attr-defined]


def test_text_of_ids_is_that_of_sentencepiece(pair: tuple[object, Tokenizer]) -> None:
    reference, tokenizer = pair
    for text in CORPUS[:4]:
        ids = reference.encode(text)  # type: ignore[attr-defined]
        assert tokenizer.decode(ids) == reference.decode(ids)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("config", "around"), [({}, (1, 0)), ({"add_bos_token": False}, (0, 0)), ({"add_eos_token": True}, (1, 1))]
)
def test_bos_is_added_unless_the_config_says_no(
    tmp_path: Path, config: dict[str, object], around: tuple[int, int]
) -> None:
    folder = train(tmp_path, **KINDS["llama"])
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.load(str(folder))
    bare = tokenizer.encode("small", add_special_tokens=False)
    before, after = around
    assert tokenizer.encode("small") == [1] * before + bare + [2] * after
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)


@pytest.mark.parametrize("model_type", ["word", "char"])
def test_other_models_are_refused_with_a_remedy(tmp_path: Path, model_type: str) -> None:
    folder = train(tmp_path, model_type=model_type, vocab_size=40, hard_vocab_limit=False)
    with pytest.raises(CheckpointError, match=r"only BPE and unigram.*save_pretrained"):
        Tokenizer.load(str(folder))


def test_symbols_of_the_user_behind_a_dummy_prefix_are_refused_with_a_remedy(tmp_path: Path) -> None:
    folder = train(tmp_path, **{**KINDS["bpe_users"], "add_dummy_prefix": True})
    with pytest.raises(CheckpointError, match=r"symbols of its user.*save_pretrained"):
        Tokenizer.load(str(folder))


@pytest.mark.parametrize("content", [b"", b"\x00", b"IQ== 0\nIg== 1\n", b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f"])
def test_what_is_no_sentencepiece_model_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.model") as caught:
        Tokenizer.load(str(tmp_path))
    assert "\n" not in caught.value.message


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_model_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = tmp_path_factory.getbasetemp() / "damaged"
        folder.mkdir(exist_ok=True)
        whole = folder / "whole.bin"
        if not whole.exists():
            train(folder, **KINDS["unigram"])
            whole.write_bytes((folder / "tokenizer.model").read_bytes())
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "tokenizer.model").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        Tokenizer.load(str(folder)).encode("small book")
    except CheckpointError as error:
        assert "\n" not in error.message
