"""A sample of twenty prompts: their answers never depend on circumstances. All of it is ``make same``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

from quire import plugins
from tests.same.answers import Answer, Sample, difference, digest
from tests.same.asks import asks
from tests.same.conditions import CONDITIONS
from tests.same.forms import MODELS, forms
from tests.same.run import Verdict, judge, table

pytestmark = pytest.mark.skipif(find_spec("quire._native") is None, reason="the promise is of the kernels")

NUM_PROMPTS = 20
FORMS = {form.name: form for form in forms()}
SOME = ["cached", "chunk 64", "preempted", "faulty", "eager"]
FEW = ["preempted", "eager"]
SAMPLE = [
    ("folio", "bfloat16", [condition.name for condition in CONDITIONS]),
    ("gemma2", "bfloat16", SOME),  # a sliding window, soft caps
    ("qwen3", "bfloat16", SOME),  # norms of queries and keys
    *(("folio", form.name, FEW) for form in forms() if form.name != "bfloat16" and not form.isa),
]


@pytest.mark.parametrize(("model", "form", "conditions"), SAMPLE, ids=[f"{model}, {form}" for model, form, _ in SAMPLE])
def test_answers_are_the_same_to_the_last_bit(
    model: str, form: str, conditions: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    [one] = [known for known in MODELS if known.name == model]
    chosen = [condition for condition in CONDITIONS if condition.name in conditions]
    verdicts = list(judge(one, FORMS[form], tmp_path / "model", chosen, NUM_PROMPTS))
    if verdicts[0].refused:
        pytest.skip(verdicts[0].refused)
    assert len(verdicts) == 1 + sum(len(condition.pass_names) for condition in chosen)
    assert [verdict for verdict in verdicts if not verdict.is_good] == []
    assert len({verdict.digest for verdict in verdicts}) == 1


def test_every_quantisation_on_the_shelf_is_a_form() -> None:
    assert set(plugins.names("quant")) <= set(FORMS)


def test_a_prompt_is_the_same_however_many_there_are() -> None:
    few, many = asks(20, 300, None), asks(60, 300, None)
    assert msgspec.json.encode(few) == msgspec.json.encode(many[: len(few)])
    assert len({tuple(ask.prompt_ids) for ask in many}) < 60, "some prompts are equal"
    assert {len(ask.prompt_ids) for ask in many} > {1, 7, 15, 16, 17, 130}


def test_answers_that_differ_in_one_bit_are_told_apart() -> None:
    def answer(logprob: float, text: str = "a") -> Answer:
        return Answer((Sample((3, 4), (((3, -1.0, 1),), ((4, logprob, 2),)), text, "length", None),), ())

    expected = answer(-0.5)
    assert difference(expected, answer(-0.5)) == "" and digest([expected]) == digest([answer(-0.5)])
    near = answer(-0.5000000596046448)
    assert digest([expected]) != digest([near])
    assert difference(expected, near) == (
        "sample 0, token 1: 4 {4: -0.5 (rank 2)} became 4 {4: -0.50000006 (rank 2)}"
    )
    assert difference(expected, answer(-0.5, "b")).startswith("sample 0: length (None) 'a' became")


def test_what_is_amiss_stands_in_the_table() -> None:
    good = Verdict("m", "f", "alone", 20, digest="0123456789abcdef")
    bad = Verdict("m", "f", "cold", 20, 3, ["prompt 1: ..."], ["hits"])
    refused = Verdict("m", "g", "alone", refused="no such form")
    assert [good.is_good, bad.is_good, refused.is_good] == [True, False, True]
    assert not Verdict("m", "g", "cold", refused="no such option").is_good
    head, first, second = table([good, bad, refused]).splitlines()
    assert head.split() == ["model", "form", "alone", "cold", "hash", "CPU", "s"]
    assert first.split() == ["m", "f", "20", "17", "of", "20", "no", "hits", "0123456789ab", "0"]
    assert second.split() == ["m", "g", "refused", "-", "0"]
