from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.text.stopper import Stopper


def naive(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The rule, said slowly: the first end of any stop; of several with that end, the longest."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


def run(pieces: list[str], stops: list[str], includes: bool = False) -> tuple[str, str | None]:
    stopper = Stopper(stops, includes)
    seen = ""
    for piece in pieces:
        visible, matched = stopper.push(piece)
        seen += visible
        if matched is not None:
            return seen, matched
    return seen + stopper.finish(), None


letters = st.text(alphabet="ab\U0001f600", max_size=30)
some_stops = st.lists(st.text(alphabet="ab\U0001f600", min_size=1, max_size=5), min_size=1, max_size=4)


@settings(max_examples=250, deadline=None)
@given(text=letters, stops=some_stops, data=st.data())
def test_any_cut_of_a_text_gives_what_a_search_of_the_whole_gives(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    edges = [0, *cuts, len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    assert run(pieces, stops) == naive(text, stops)


@settings(max_examples=120, deadline=None)
@given(text=letters, stops=some_stops)
def test_only_what_may_become_a_stop_is_held_back(text: str, stops: list[str]) -> None:
    stopper = Stopper(stops)
    seen = ""
    for at, char in enumerate(text):
        visible, matched = stopper.push(char)
        if matched is not None:
            return
        seen += visible
        held = text[len(seen) : at + 1]
        longest = max(
            (len(stop[:n]) for stop in stops for n in range(len(stop)) if text[: at + 1].endswith(stop[:n])), default=0
        )
        assert len(held) == longest


@settings(max_examples=120, deadline=None)
@given(text=letters, stops=some_stops, first=st.integers(0, 30))
def test_stops_that_complete_too_early_do_not_count(text: str, stops: list[str], first: int) -> None:
    stopper = Stopper(stops)
    seen, found = "", None
    for at, char in enumerate(text):
        visible, found = stopper.push(char, may_stop=at >= first)
        seen += visible
        if found is not None:
            break
    else:
        seen += stopper.finish()
    ends = [end for end in range(first + 1, len(text) + 1) if any(text[:end].endswith(stop) for stop in stops)]
    if not ends:
        assert (seen, found) == (text, None)
    else:
        longest = max((stop for stop in stops if text[: ends[0]].endswith(stop)), key=len)
        assert (seen, found) == (text[: ends[0] - len(longest)], longest)


@pytest.mark.parametrize(
    ("pieces", "stops", "expected"),
    [
        (["Hello\n", "\nUser: x"], ["\n\nUser:"], ("Hello", "\n\nUser:")),
        (["ab", "c"], ["abc", "ab"], ("", "ab")),
        (["xab", "c"], ["xabc", "ab"], ("x", "ab")),
        (["...END"], ["END", "D"], ("...", "END")),
        (["stop"], ["stop"], ("", "stop")),
        (["sto"], ["stop"], ("sto", None)),
        (["a\U0001f468", "\u200d\U0001f469b"], ["\u200d"], ("a\U0001f468", "\u200d")),
        (["no stops"], [], ("no stops", None)),
    ],
)
def test_stops_at_borders_in_prefixes_and_inside_emoji(
    pieces: list[str], stops: list[str], expected: tuple[str, str | None]
) -> None:
    assert run(pieces, stops) == expected


def test_an_included_stop_ends_the_text_and_nothing_is_held_back() -> None:
    stopper = Stopper(["END"], includes_stop=True)
    assert stopper.push("xE") == ("xE", None)
    assert stopper.push("NDy") == ("ND", "END")
    assert stopper.finish() == ""


def test_a_long_text_of_near_misses_takes_linear_work() -> None:
    stop = "a" * 1023 + "b"
    seen, matched = run(["a"] * 20_000, [stop])
    assert (len(seen), matched) == (20_000, None)
