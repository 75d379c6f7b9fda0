from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as RawTokenizer

from quire.text.detokenizer import Detokenizer
from quire.text.tokenizer import Tokenizer

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TRICKY = [
    "👩‍👩‍👧‍👦🏳️‍🌈😀",
    "e\u0301n\u0303 combining",
    "東京の図書館 我们看书 한국어",
    "שלום עולם مرحبا",
    " leading space",
    "  two",
    "\n\nbreaks\t",
    "plain, text. And don't 'stop' n't",
    "",
]


def streamed(tokenizer: Tokenizer, ids: list[int], **options: object) -> str:
    detokenizer = Detokenizer(tokenizer, **options)  # type: ignore[arg-type]
    return "".join([detokenizer.push([id]) for id in ids] + [detokenizer.finish()])


@pytest.mark.parametrize("text", TRICKY)
@pytest.mark.parametrize("skips", [True, False])
def test_tokens_one_by_one_give_the_text_of_the_whole(
    kind: str, tokenizers: dict[str, Tokenizer], raws: dict[str, RawTokenizer], text: str, skips: bool
) -> None:
    ids = tokenizers[kind].encode(text)
    whole = tokenizers[kind].decode(ids, skip_special_tokens=skips)
    assert streamed(tokenizers[kind], ids, skip_special_tokens=skips) == whole
    assert whole == raws[kind].decode(ids, skip_special_tokens=skips)


@SETTINGS
@given(data=st.data())
def test_any_ids_at_all_stream_as_they_decode(kind: str, tokenizers: dict[str, Tokenizer], data: st.DataObject) -> None:
    tokenizer = tokenizers[kind]
    ids = data.draw(st.lists(st.integers(0, tokenizer.num_tokens + 2), max_size=24))
    skips = data.draw(st.booleans())
    assert streamed(tokenizer, ids, skip_special_tokens=skips) == tokenizer.decode(ids, skip_special_tokens=skips)


@SETTINGS
@given(data=st.data())
def test_decoding_equals_the_librarys(
    kind: str, tokenizers: dict[str, Tokenizer], raws: dict[str, RawTokenizer], data: st.DataObject
) -> None:
    ids = data.draw(st.lists(st.integers(0, tokenizers[kind].num_tokens - 1), max_size=24))
    skips = data.draw(st.booleans())
    expected = raws[kind].decode(ids, skip_special_tokens=skips)
    # Of a run of byte pieces with a broken part the library keeps nothing; here the sound characters stay.
    if kind != "byte_fallback" or "\ufffd" not in expected:
        assert tokenizers[kind].decode(ids, skip_special_tokens=skips) == expected


@SETTINGS
@given(text=st.text(max_size=40), cuts=st.data())
def test_text_comes_back_from_bytes_cut_anywhere(
    tokenizers: dict[str, Tokenizer], text: str, cuts: st.DataObject
) -> None:
    for name in ("byte_level", "byte_fallback"):
        tokenizer = tokenizers[name]
        ids = tokenizer.encode(text, add_special_tokens=False)
        detokenizer = Detokenizer(tokenizer)
        pieces: list[str] = []
        while ids:
            taken = cuts.draw(st.integers(1, len(ids)))
            pieces.append(detokenizer.push(ids[:taken]))
            ids = ids[taken:]
        pieces.append(detokenizer.finish())
        assert "".join(pieces) == text
        assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


def test_a_character_that_is_never_finished_shows_as_one_mark(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a😀", add_special_tokens=False)
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.push([id]) for id in ids[:-1]]
    assert "\ufffd" not in "".join(pieces)
    assert "".join(pieces) + detokenizer.finish() == "a\ufffd"


def test_a_broken_character_in_the_middle_is_told_once_it_is_certain(tokenizer: Tokenizer) -> None:
    smiley = tokenizer.encode("😀", add_special_tokens=False)
    letter = tokenizer.encode("a", add_special_tokens=False)
    detokenizer = Detokenizer(tokenizer)
    assert detokenizer.push([*smiley[:-1], *letter]) == "\ufffda"


def test_a_continuation_keeps_its_leading_space(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["byte_fallback"]
    prompt = tokenizer.encode("the small")
    ids = tokenizer.encode("book", add_special_tokens=False)
    assert streamed(tokenizer, ids, prompt_ids=prompt) == " book"
    assert streamed(tokenizer, ids) == "book"


def test_after_a_prompt_of_only_bos_the_text_starts_without_a_space(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["byte_fallback"]
    ids = tokenizer.encode("book", add_special_tokens=False)
    assert streamed(tokenizer, ids, prompt_ids=[tokenizer.bos_token_id]) == "book"


@pytest.mark.parametrize("name", ["byte_level", "byte_fallback"])
def test_a_character_the_prompt_left_open_is_completed(tokenizers: dict[str, Tokenizer], name: str) -> None:
    tokenizer = tokenizers[name]
    ids = tokenizer.encode("see 🧬!", add_special_tokens=False)
    cut = len(ids) - 2
    assert streamed(tokenizer, ids[cut:], prompt_ids=ids[:cut]) == "🧬!"


def test_a_continued_word_keeps_its_spaces_under_word_pieces(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["word_piece"]
    prompt, more = "the small", "book of pages"
    ids = tokenizer.encode(more, add_special_tokens=False)
    prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
    assert prompt + streamed(tokenizer, ids, prompt_ids=prompt_ids) == f"{prompt} {more}"


def test_spaces_between_special_tokens_can_be_left_out(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["word_piece"]
    ids = tokenizer.encode("small book")
    ids = [*ids, ids[-1]]
    assert streamed(tokenizer, ids, skip_special_tokens=False) == "[CLS] small book [SEP] [SEP]"
    without = streamed(tokenizer, ids, skip_special_tokens=False, spaces_between_special_tokens=False)
    assert without == "[CLS] small book [SEP][SEP]"


@pytest.mark.parametrize("name", ["byte_level", "byte_fallback"])
def test_spaces_between_special_tokens_change_nothing_where_none_are_written(
    tokenizers: dict[str, Tokenizer], name: str
) -> None:
    tokenizer = tokenizers[name]
    ids = [*sorted(tokenizer.special_ids), *tokenizer.encode("small book")]
    both = {
        streamed(tokenizer, ids, skip_special_tokens=False, spaces_between_special_tokens=spaces)
        for spaces in (True, False)
    }
    assert both == {tokenizer.decode(ids, skip_special_tokens=False)}


def test_skipped_tokens_leave_no_trace(tokenizer: Tokenizer) -> None:
    smiley = tokenizer.encode("😀", add_special_tokens=False)
    marked = [id for byte in smiley for id in (byte, tokenizer.eos_token_id)]
    assert streamed(tokenizer, marked) == "😀"


def test_an_added_token_with_letters_outside_the_byte_alphabet_decodes_as_itself(tmp_path: Path) -> None:
    from tokenizers import AddedToken, decoders, models, pre_tokenizers

    raw = RawTokenizer(
        models.BPE(vocab={char: at for at, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[])
    )
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_tokens([AddedToken("<\uff5cUser\uff5c>", normalized=False), AddedToken("two words", normalized=False)])
    raw.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({}))
    tokenizer = Tokenizer.load(str(tmp_path))
    text = "a<\uff5cUser\uff5c>two words b"
    ids = tokenizer.encode(text)
    assert len(ids) == 5
    assert streamed(tokenizer, ids) == tokenizer.decode(ids) == raw.decode(ids) == text
