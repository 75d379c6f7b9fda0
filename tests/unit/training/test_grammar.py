"""Folio's grammar: it repeats, it keeps its exam secret, and its markup is the markup that ships."""

from __future__ import annotations

import json
from random import Random

import pytest
from tokenizers import Tokenizer

from quire.bundled import folio_path
from training.folio.documents import (
    END_OF_TEXT,
    IM_END,
    IM_START,
    Message,
    conversation,
    document,
    drill,
    plain_text,
    recall,
    render_chat,
)
from training.folio.exam import DOMAINS, exam, exercise, perplexity_text
from training.folio.grammar import WEIGHTS, Turn, any_turn, draw, is_held_out, sum_key
from training.folio.tokens import CHAT_TEMPLATE
from training.folio.tools import TOOLS, call_text


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(folio_path() / "tokenizer.json"))


def test_the_same_seed_draws_the_same_documents() -> None:
    first, second, other = Random(7), Random(7), Random(8)
    drawn = [document(first) for _ in range(200)]
    assert drawn == [document(second) for _ in range(200)]
    assert drawn != [document(other) for _ in range(200)]


def test_the_exam_is_the_same_every_time_and_asks_no_question_twice() -> None:
    questions = exam(1, 10)
    assert [one.messages for one in questions] == [one.messages for one in exam(1, 10)]
    assert len({(one.messages, one.tools) for one in questions}) == len(questions) == 10 * len(DOMAINS)


def test_about_a_twentieth_of_the_problems_is_reserved() -> None:
    rng = Random(3)
    keys = {any_turn(rng).key for _ in range(4000)}
    assert 0.03 < sum(map(is_held_out, keys)) / len(keys) < 0.07


def test_exam_questions_are_reserved_and_training_turns_are_not() -> None:
    rng = Random(4)
    assert all(is_held_out(one.turn.key) for one in exam(2, 20) if one.turn.domain != "recall")
    assert not any(is_held_out(draw(rng, any_turn, False).key) for _ in range(2000))


def test_no_exam_question_is_ever_asked_in_a_training_document() -> None:
    closed = {"times", "facts", "talk", "capitals", "lexicon", "calendar", "unknown"}
    wanted = {one.turn.user for one in exam(3, 40) if one.turn.domain not in {"recall", "tools"}}
    reserved = {one.turn.user for one in exam(3, 40) if one.turn.domain in closed}
    rng, asked = Random(5), set[str]()
    for _ in range(5000):
        asked |= {message.content for message in conversation(rng).messages if message.role == "user"}
    assert reserved <= wanted
    assert not wanted & asked


def test_drills_contain_no_reserved_sum() -> None:
    rng = Random(6)
    for _ in range(200):
        for line in "".join(piece.text for piece in drill(rng)).splitlines():
            a, sign, b, _, result = line.split()
            assert not is_held_out(sum_key(int(a), sign, int(b)))
            assert int(result) == (int(a) + int(b) if sign == "+" else int(a) - int(b))


@pytest.mark.parametrize("source", list(WEIGHTS), ids=lambda source: source.__name__)
def test_each_answer_passes_its_own_check_and_another_does_not(source: object) -> None:
    rng = Random(9)
    assert callable(source)
    for _ in range(100):
        turn = source(rng)
        assert turn.accepts(turn.answer)
        assert turn.accepts(f" {turn.answer}\n")
        assert not turn.accepts(turn.answer + " and more")
        assert not turn.accepts("")


def test_a_tool_call_is_compared_as_json_and_needs_its_marks() -> None:
    turn = Turn("tools", "", call_text("search", {"query": "fig", "count": 3}), "", "json")
    assert turn.accepts('<tool_call>{"arguments": {"count": 3, "query": "fig"}, "name": "search"}</tool_call>')
    assert not turn.accepts('{"name": "search", "arguments": {"query": "fig", "count": 3}}')
    assert not turn.accepts('<tool_call>{"name": "search", "arguments": {"query": "fog", "count": 3}}</tool_call>')
    assert not turn.accepts("<tool_call>{</tool_call>")


@pytest.mark.parametrize("domain", list(DOMAINS))
def test_an_exercise_ends_with_its_question(domain: str) -> None:
    rng = Random(10)
    for _ in range(30):
        drawn = exercise(rng, domain)
        assert drawn.turn.domain == domain
        assert drawn.messages[-1] == Message("user", drawn.turn.user)
        assert drawn.turn.accepts(drawn.turn.answer)


def test_only_what_the_assistant_writes_is_trained() -> None:
    rng = Random(11)
    for _ in range(100):
        talk = conversation(rng)
        trained = [piece.text for piece in render_chat(talk.messages, talk.tools) if piece.trained]
        assert trained == [message.content + IM_END for message in talk.messages if message.role == "assistant"]


def test_the_perplexity_text_is_fixed_and_marks_one_answer_a_document() -> None:
    documents = perplexity_text(count=3, stories=2)
    assert documents == perplexity_text(count=3, stories=2)
    assert all(sum(piece.trained for piece in pieces) == 1 for pieces in documents)


def test_the_tokenizer_gives_back_every_text(tokenizer: Tokenizer) -> None:
    rng = Random(12)
    texts = ["", " ", "\n\n", "Größe 漢字 🙂 \t x", "12345", "a  b   c", "don't\r\n"]
    texts += [plain_text(rng) for _ in range(50)]
    for text in texts:
        ids = tokenizer.encode(text).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_the_tokenizer_adds_nothing_and_knows_its_marks(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("").ids == []
    marks = [tokenizer.token_to_id(mark) for mark in (END_OF_TEXT, IM_START, IM_END)]
    assert tokenizer.encode(END_OF_TEXT + IM_START + IM_END).ids == marks
    assert tokenizer.decode(marks, skip_special_tokens=True) == ""
    assert [tokenizer.decode([i]) for i in tokenizer.encode("365").ids] == ["3", "6", "5"]


def test_pieces_encoded_apart_are_the_whole_text_encoded_at_once(tokenizer: Tokenizer) -> None:
    rng = Random(13)
    for _ in range(300):
        pieces = document(rng)
        apart = [token for piece in pieces for token in tokenizer.encode(piece.text).ids]
        assert apart == tokenizer.encode("".join(piece.text for piece in pieces)).ids


def shipped_template() -> str:
    config = json.loads((folio_path() / "tokenizer_config.json").read_text())
    template = config["chat_template"]
    assert isinstance(template, str)
    return template


def rendered(messages: list[dict[str, object]], tools: list[dict[str, object]] | None, prompt: bool) -> str:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string(shipped_template())
    return template.render(messages=messages, tools=tools, add_generation_prompt=prompt)


def test_the_shipped_template_is_the_one_of_the_source() -> None:
    assert shipped_template() == CHAT_TEMPLATE


def test_the_chat_template_writes_what_training_read() -> None:
    rng = Random(14)
    for number in range(300):
        talk = recall(rng) if number % 5 == 0 else conversation(rng, tools=number % 2 == 0)
        messages: list[dict[str, object]] = [{"role": one.role, "content": one.content} for one in talk.messages]
        tools = [tool.schema() for tool in talk.tools] or None
        trained = "".join(piece.text for piece in render_chat(talk.messages, talk.tools))
        assert rendered(messages, tools, prompt=False) == trained
        assert rendered(messages, tools, prompt=True) == trained + f"{IM_START}assistant\n"


def test_the_chat_template_writes_tool_calls_of_earlier_turns_as_trained() -> None:
    arguments: dict[str, object] = {"city": "Oslo"}
    text = call_text("get_weather", {"city": "Oslo"})
    schema = [TOOLS[0].schema()]
    plain = rendered([{"role": "user", "content": "x"}, {"role": "assistant", "content": text}], schema, prompt=True)
    for given in (arguments, json.dumps(arguments)):
        call = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": given}}
        reply: dict[str, object] = {"role": "assistant", "content": None, "tool_calls": [call]}
        assert rendered([{"role": "user", "content": "x"}, reply], schema, prompt=True) == plain
