from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quire.config.decided import TextConfig
from quire.core.events import Delta, FinishReason, Scheduled
from quire.core.ids import RequestId
from quire.core.outputs import RequestOutput
from quire.core.params import OutputKind, SamplingParams
from quire.core.step import TokenLogprobs
from quire.text.stream import Piece, RequestStream
from quire.text.tokenizer import Tokenizer
from quire.text.validate import Validator

R = RequestId("r")


def stream_of(tokenizer: Tokenizer | None, prompt: list[int] | None = None, **params: Any) -> RequestStream:
    config = TextConfig("", tokenizer.num_tokens if tokenizer else 1000, 4096, 4096)
    given = SamplingParams(max_tokens=None, **params)
    admitted = Validator(config, tokenizer).admit(R, prompt or [1, 2], given, clamps_max_tokens=True)
    return RequestStream(admitted, "the prompt", tokenizer, arrival_time=1.0)


def run(
    stream: RequestStream, ids: list[int], sizes: list[int], finish: FinishReason | None = "length", index: int = 0
) -> list[Piece]:
    """Feeds ids in deltas of these sizes (the last takes the rest) until the text stops it."""
    pieces: list[Piece] = []
    at = 0
    for size in [*sizes, len(ids)]:
        part, at = ids[at : at + size], at + size
        is_last = at >= len(ids)
        piece = stream.feed(Delta(R, index, tuple(part), finish=finish if is_last else None), at_s=2.0)
        if piece is not None:
            pieces.append(piece)
            if piece.finish_reason is not None:
                break
        if is_last:
            break
    return pieces


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text("ab 😀é\n", max_size=25),
    stops=st.lists(st.text("ab 😀é", min_size=1, max_size=3), max_size=3),
    sizes=st.lists(st.integers(1, 5), max_size=8),
    includes=st.booleans(),
)
def test_text_and_tokens_do_not_depend_on_how_deltas_are_cut(
    tokenizer: Tokenizer, text: str, stops: list[str], sizes: list[int], includes: bool
) -> None:
    ids = tokenizer.encode(text)
    results = []
    for cut in (sizes, [1] * len(ids), []):
        stream = stream_of(tokenizer, stop=stops, include_stop_str_in_output=includes)
        pieces = run(stream, ids, cut)
        output = stream.output().outputs[0]
        assert text_of(pieces) == output.text
        assert [id for piece in pieces for id in piece.token_ids] == output.token_ids
        assert sum(piece.finish_reason is not None for piece in pieces) == 1
        results.append((output.text, output.token_ids, output.finish_reason, output.stop_reason))
    assert results[0] == results[1] == results[2]
    final, kept, reason, stop = results[0]
    if stop is None:
        assert (final, kept, reason) == (text, ids, "length")
        assert not any(stop in text for stop in stops)
    else:
        cut_text = final if includes else final + str(stop)
        assert text.startswith(cut_text)
        assert tokenizer.decode(kept).startswith(cut_text)
        assert not tokenizer.decode(kept[:-1]).startswith(cut_text)
        assert reason == "stop"


def test_the_engine_is_to_be_told_only_when_it_does_not_know(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("so END")
    early = run(stream_of(tokenizer, stop="END"), [*ids, *ids], [len(ids)], finish=None)
    assert early[-1].stopped_by_text
    late = run(stream_of(tokenizer, stop="END"), ids, [])
    assert not late[-1].stopped_by_text
    assert (late[-1].finish_reason, late[-1].stop_reason) == ("stop", "END")


def test_what_comes_after_the_end_is_ignored(tokenizer: Tokenizer) -> None:
    stream = stream_of(tokenizer, stop="END")
    run(stream, tokenizer.encode("so END"), [1, 1, 1], finish=None)
    assert stream.finished
    before = stream.output()
    assert stream.feed(Delta(R, 0, (5, 6))) is None
    assert stream.feed(Delta(R, 0, (), finish="abort")) is None
    assert stream.output() == before


def test_a_stop_in_the_prompt_alone_stops_nothing(tokenizer: Tokenizer) -> None:
    prompt = tokenizer.encode("say EN")
    stream = stream_of(tokenizer, prompt=prompt, stop="END")
    assert text_of(run(stream, tokenizer.encode("D of it"), [1])) == "D of it"


def test_held_back_text_is_flushed_at_the_end(tokenizer: Tokenizer) -> None:
    pieces = run(stream_of(tokenizer, stop="ENDING"), tokenizer.encode("so END"), [1] * 9)
    assert text_of(pieces) == "so END"
    assert "END" not in text_of(pieces[:-1])


@pytest.mark.parametrize(("min_tokens", "text"), [(0, "a"), (2, "a."), (3, "a.b"), (9, "a.b.c.")])
def test_stop_strings_do_not_count_before_min_tokens(tokenizer: Tokenizer, min_tokens: int, text: str) -> None:
    ids = [id for char in "a.b.c." for id in tokenizer.encode(char)]
    stream = stream_of(tokenizer, stop=".", min_tokens=min_tokens)
    run(stream, ids, [1] * 6)
    expected = {0: "a", 2: "a.b", 3: "a.b", 9: "a.b.c."}[min_tokens]
    assert stream.output().outputs[0].text == expected


@pytest.mark.parametrize("includes", [True, False])
def test_a_token_that_ends_the_sequence_counts_and_is_not_text(tokenizer: Tokenizer, includes: bool) -> None:
    ids = [*tokenizer.encode("fine"), tokenizer.eos_token_id or 0]
    stream = stream_of(tokenizer, skip_special_tokens=False, include_stop_str_in_output=includes)
    run(stream, ids, [], finish="stop")
    output = stream.output().outputs[0]
    assert output.text == ("fine<|im_end|>" if includes else "fine")
    assert output.token_ids == ids
    assert (output.finish_reason, output.stop_reason) == ("stop", None)


def test_a_stop_token_id_is_the_reason(tokenizer: Tokenizer) -> None:
    (dot,) = tokenizer.encode(".")
    stream = stream_of(tokenizer, stop_token_ids=[dot])
    stream.feed(Delta(R, 0, (*tokenizer.encode("fine"), dot), finish="stop", stop_reason=dot))
    output = stream.output().outputs[0]
    assert (output.text, output.stop_reason) == ("fine", dot)


def test_a_character_that_stays_open_shows_only_at_the_end(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a😀")[:-1]
    pieces = run(stream_of(tokenizer), ids, [1] * len(ids))
    assert text_of(pieces) == "a\ufffd"
    assert pieces[-1].text.endswith("\ufffd")
    assert "\ufffd" not in text_of(pieces[:-1])


def test_samples_are_kept_apart_and_each_ends_once(tokenizer: Tokenizer) -> None:
    stream = stream_of(tokenizer, n=3, stop="!")
    texts = ["one two", "drei! vier", "😀 fin"]
    ids = [tokenizer.encode(text) for text in texts]
    done: set[int] = set()
    for step in range(max(map(len, ids))):
        for index in range(3):
            if index in done or step >= len(ids[index]):
                continue
            finish: FinishReason | None = "length" if step == len(ids[index]) - 1 else None
            piece = stream.feed(Delta(R, index, (ids[index][step],), finish=finish))
            if piece is not None and piece.finish_reason is not None:
                assert piece.index == index
                done.add(index)
        assert stream.finished == (len(done) == 3)
    output = stream.output()
    assert [sample.text for sample in output.outputs] == ["one two", "drei", "😀 fin"]
    assert [sample.index for sample in output.outputs] == [0, 1, 2]
    assert output.finished
    assert stream.num_generated_tokens == sum(len(sample.token_ids) for sample in output.outputs)


def test_logprobs_have_the_sampled_token_first(tokenizer: Tokenizer) -> None:
    first, second = tokenizer.encode("é")[:1] + tokenizer.encode("a")
    stream = stream_of(tokenizer, logprobs=2, prompt_logprobs=1)
    entry = TokenLogprobs((second, second, first), (-2.0, -2.0, -3.0), (2, 2, 3))
    prompt = TokenLogprobs((2, 5), (-1.0, -0.1), (3, 1))
    piece = stream.feed(Delta(R, 0, (second,), (entry,), (prompt,)))
    assert piece is not None and piece.logprobs is not None
    assert list(piece.logprobs[0]) == [second, first]
    assert piece.logprobs[0][second].rank == 2
    assert piece.logprobs[0][second].decoded_token == "a"
    output = stream.output()
    assert output.prompt_logprobs is not None
    assert output.prompt_logprobs[0] is None
    assert list(output.prompt_logprobs[1] or {}) == [2, 5]
    assert output.outputs[0].cumulative_logprob == -2.0
    assert output.outputs[0].logprobs == piece.logprobs


def test_logprobs_of_tokens_behind_a_stop_are_cut_with_them(tokenizer: Tokenizer) -> None:
    ids = [id for char in "a.b" for id in tokenizer.encode(char)]
    stream = stream_of(tokenizer, stop=".", logprobs=0)
    entries = tuple(TokenLogprobs((id,), (-1.0,), (1,)) for id in ids)
    piece = stream.feed(Delta(R, 0, tuple(ids), entries))
    assert piece is not None and piece.logprobs is not None
    assert (len(piece.token_ids), len(piece.logprobs)) == (2, 2)
    assert stream.output().outputs[0].cumulative_logprob == -2.0
    assert stream.num_generated_tokens == 2


def test_part_of_a_character_shows_as_a_mark_in_logprobs(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["byte_fallback"]
    byte = next(id for id in range(tokenizer.num_tokens) if tokenizer.token(id) == "<0xF0>")
    assert tokenizer.token_text(byte) == "\ufffd"
    assert tokenizer.token_bytes(byte) == b"\xf0"


def test_an_error_is_told_with_the_last_piece(tokenizer: Tokenizer) -> None:
    piece = stream_of(tokenizer).feed(Delta(R, 0, finish="error", error="the logits were not finite"))
    assert piece is not None
    assert (piece.finish_reason, piece.error) == ("error", "the logits were not finite")


def test_a_cancelled_sample_keeps_its_text(tokenizer: Tokenizer) -> None:
    stream = stream_of(tokenizer, stop="ENDING")
    stream.feed(Delta(R, 0, tuple(tokenizer.encode("so END"))))
    piece = stream.feed(Delta(R, 0, finish="abort"))
    assert piece is not None
    assert (piece.text, piece.finish_reason) == ("END", "abort")
    assert stream.output().outputs[0].text == "so END"


def test_outputs_of_kind_delta_tell_each_thing_once(tokenizer: Tokenizer) -> None:
    stream = stream_of(tokenizer, output_kind=OutputKind.DELTA, logprobs=0)
    ids = tokenizer.encode("one two three")
    outputs: list[RequestOutput] = []
    for at, id in enumerate(ids):
        entry = TokenLogprobs((id,), (-1.0,), (1,))
        stream.feed(Delta(R, 0, (id,), (entry,), finish="length" if at == len(ids) - 1 else None))
        outputs.append(stream.output())
    assert "".join(output.outputs[0].text for output in outputs) == "one two three"
    assert [id for output in outputs for id in output.outputs[0].token_ids] == ids
    assert all(len(output.outputs[0].logprobs or []) == 1 for output in outputs)
    assert [output.finished for output in outputs] == [False] * (len(ids) - 1) + [True]


def test_times_and_cache_hits_are_noted(tokenizer: Tokenizer) -> None:
    stream = stream_of(tokenizer, prompt=list(range(40)))
    stream.scheduled(Scheduled(R, 0, 32, is_first=True, at_s=2.0))
    stream.feed(Delta(R, 0, (1,)), at_s=3.0)
    stream.scheduled(Scheduled(R, 0, 16, is_first=False, at_s=4.0))
    stream.feed(Delta(R, 0, (2,), finish="length"), at_s=5.0)
    output = stream.output()
    metrics = output.metrics
    assert output.num_cached_tokens == 32
    assert metrics is not None
    assert (metrics.arrival_time, metrics.scheduled_ts, metrics.first_token_ts) == (1.0, 2.0, 3.0)
    assert metrics.first_token_latency == 2.0
    assert (metrics.last_token_ts, metrics.num_generation_tokens, metrics.num_preemptions) == (5.0, 2, 1)
    assert (output.prompt, output.prompt_token_ids) == ("the prompt", list(range(40)))


@pytest.mark.parametrize("has_tokenizer", [True, False])
def test_without_text_there_are_ids_only(tokenizer: Tokenizer, has_tokenizer: bool) -> None:
    stream = stream_of(tokenizer if has_tokenizer else None, detokenize=False, logprobs=0)
    entry = TokenLogprobs((5,), (-1.0,), (1,))
    piece = stream.feed(Delta(R, 0, (5,), (entry,), finish="length"))
    assert piece is not None
    assert (piece.text, piece.token_ids) == ("", (5,))
    assert piece.logprobs is not None
    assert (piece.logprobs[0][5].decoded_token is None) == (not has_tokenizer)
