from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import processors

from quire.errors import CheckpointError, InvalidValue
from quire.text.tokenizer import Tokenizer

TEXTS = [
    "Hello world",
    "  spaces  inside ",
    "Zwölf 😀 東京",
    "",
    "<|im_start|>user\nhi<|im_end|>",
    "<s>a</s> [SEP] b",
    "\n\n\t",
]


def write(folder: Path, source: Path, config: dict[str, object], **files: object) -> Path:
    (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def reference_ids(folder: Path, text: str, special: bool) -> list[int]:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(str(folder))
    return list(reference(text, add_special_tokens=special)["input_ids"])


@pytest.mark.parametrize("special", [True, False])
def test_ids_equal_those_of_the_reference(
    kind: str, folders: dict[str, Path], tokenizers: dict[str, Tokenizer], special: bool
) -> None:
    for text in TEXTS:
        assert tokenizers[kind].encode(text, add_special_tokens=special) == reference_ids(folders[kind], text, special)


@pytest.mark.parametrize("flags", [{}, {"add_bos_token": True}, {"add_bos_token": False}, {"add_eos_token": True}])
@pytest.mark.parametrize("name", ["byte_fallback", "byte_level"])
@pytest.mark.parametrize("cls", ["PreTrainedTokenizerFast", "Qwen2Tokenizer"])
def test_what_is_added_around_a_text_equals_the_reference(
    tmp_path: Path, folders: dict[str, Path], flags: dict[str, object], name: str, cls: str
) -> None:
    if cls == "Qwen2Tokenizer" and name != "byte_level":
        pytest.skip("that class rebuilds byte-level tokenizers only")
    config = {
        "tokenizer_class": cls,
        "bos_token": "<s>" if name == "byte_fallback" else "<|endoftext|>",
        "eos_token": "</s>",
    }
    folder = write(tmp_path, folders[name], {**config, **flags})
    assert Tokenizer.load(str(folder)).encode("a small book") == reference_ids(folder, "a small book", True)


def test_tokens_that_only_the_config_declares_are_added_as_the_reference_does(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    from transformers import AutoTokenizer

    size = RawTokenizer.from_file(str(folders["byte_level"] / "tokenizer.json")).get_vocab_size()
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": {"__type": "AddedToken", "content": "<|im_end|>", "normalized": False, "special": True},
        "pad_token": "<pad>",
        "extra_special_tokens": ["<extra>"],
        "added_tokens_decoder": {
            str(size): {"content": "<tool>", "special": False, "normalized": False},
            str(size + 1): {"content": "<ctl>", "special": True, "normalized": False},
        },
    }
    folder = write(tmp_path, folders["byte_level"], config)
    ours, reference = Tokenizer.load(str(folder)), AutoTokenizer.from_pretrained(str(folder))
    text = "a<tool>b<ctl>c<pad>d<extra>e<think>f<|im_end|>"
    ids = ours.encode(text)
    assert ids == list(reference(text)["input_ids"])
    for skips in (True, False):
        assert ours.decode(ids, skip_special_tokens=skips) == reference.decode(ids, skip_special_tokens=skips)
    assert ours.eos_token_id == reference.eos_token_id
    assert ours.special_ids >= set(reference.all_special_ids)


def test_legacy_files_name_tokens_too(tmp_path: Path, folders: dict[str, Path]) -> None:
    size = RawTokenizer.from_file(str(folders["byte_level"] / "tokenizer.json")).get_vocab_size()
    folder = write(
        tmp_path,
        folders["byte_level"],
        {},
        special_tokens_map={"eos_token": {"content": "<|im_end|>", "lstrip": False}, "bos_token": "<|endoftext|>"},
        added_tokens={"<mine>": size},
    )
    tokenizer = Tokenizer.load(str(folder))
    assert tokenizer.token(tokenizer.eos_token_id or -1) == "<|im_end|>"
    assert tokenizer.encode("<mine>") == [size]
    assert size not in tokenizer.special_ids


def test_truncation_and_padding_in_the_file_are_not_followed(tmp_path: Path, folders: dict[str, Path]) -> None:
    raw = RawTokenizer.from_file(str(folders["byte_level"] / "tokenizer.json"))
    raw.enable_truncation(4)
    raw.enable_padding(length=64)
    raw.save(str(tmp_path / "tokenizer.json"))
    assert len(Tokenizer.load(str(tmp_path)).encode("one two three four five six")) not in (4, 64)


def test_a_folder_without_a_tokenizer_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither tokenizer.json nor tokenizer.model.*save_pretrained") as caught:
        Tokenizer.load(str(tmp_path))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model": 5}', "\x00\xff"])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, folders: dict[str, Path], name: str, content: str) -> None:
    write(tmp_path, folders["byte_level"], {})
    if name == "tokenizer_config.json" and content in ("{}", '{"model": 5}'):
        pytest.skip("a config may say nothing")
    (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match=name) as caught:
        Tokenizer.load(str(tmp_path))
    assert "\n" not in caught.value.message


def test_bytes_of_tokens_joined_are_the_text(tokenizers: dict[str, Tokenizer]) -> None:
    text = "Zwölf 😀 東京 x"
    for name in ("byte_level", "byte_fallback"):
        tokenizer = tokenizers[name]
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert b"".join(map(tokenizer.token_bytes, ids)).decode().strip() == text


def test_ids_that_do_not_exist_are_nothing(tokenizer: Tokenizer) -> None:
    beyond = [tokenizer.num_tokens, 2**31, 2**70, -1]
    assert [tokenizer.token(id) for id in beyond] == [""] * 4
    assert [tokenizer.token_bytes(id) for id in beyond] == [b""] * 4
    assert tokenizer.decode(beyond) == ""


def test_a_lone_surrogate_is_the_clients_mistake(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidValue, match="surrogate"):
        tokenizer.encode("a\ud800")
    with pytest.raises(InvalidValue, match="surrogate"):
        tokenizer.encode_ordinary("\udfff")


def test_ordinary_text_has_no_special_token(tokenizer: Tokenizer) -> None:
    text = "a<|im_end|>b"
    ids = tokenizer.encode_ordinary(text)
    assert not tokenizer.special_ids & set(ids)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.eos_token_id in tokenizer.encode(text)


def test_other_threads_run_while_a_long_text_is_encoded(tokenizer: Tokenizer) -> None:
    text = "the quick brown fox " * 15_000
    started, done = threading.Event(), threading.Event()

    def encode() -> None:
        started.set()
        tokenizer.encode(text)
        done.set()

    worker = threading.Thread(target=encode)
    worker.start()
    started.wait()
    turns = 0
    while not done.is_set():
        turns += 1
    worker.join()
    # A call that held the interpreter lock would leave a few turns before it begins, at most.
    assert turns > 1000


def test_a_template_may_stand_in_any_of_its_places(tmp_path: Path, folders: dict[str, Path]) -> None:
    named = [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]
    folder = write(tmp_path, folders["byte_level"], {"chat_template": named})
    assert Tokenizer.load(str(folder)).config.chat_templates == {"default": "D", "tool_use": "T"}
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "J"}))
    assert Tokenizer.load(str(folder)).config.chat_template == "J"
    (folder / "chat_template.jinja").write_text("F")
    assert Tokenizer.load(str(folder)).config.chat_template == "F"
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("R")
    assert Tokenizer.load(str(folder)).config.chat_templates["rag"] == "R"


def test_the_post_processor_of_the_file_adds_bos_once(tmp_path: Path, folders: dict[str, Path]) -> None:
    raw = RawTokenizer.from_file(str(folders["byte_level"] / "tokenizer.json"))
    bos = raw.token_to_id("<|endoftext|>")
    raw.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", bos)]),
        ]
    )
    raw.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<|endoftext|>", "add_bos_token": True}))
    tokenizer = Tokenizer.load(str(tmp_path))
    assert tokenizer.encode("a") == [bos, *tokenizer.encode("a", add_special_tokens=False)]
    assert tokenizer.encode("") == [bos]
