"""Folio's world: short questions with their answers, deterministic from a `random.Random`.

Each domain is a function from a random source to a `Turn`. A turn's `key` names its problem; problems whose key falls
into a reserved twentieth are never trained on (`is_held_out`). How turns become training text is in documents.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from training.folio.facts import FACTS, SMALL_TALK, UNKNOWN_ANSWER, UNKNOWN_FORMS, UNKNOWN_WORDS
from training.folio.words import (
    ANIMALS,
    CAPITALS,
    CITIES,
    COLOURS,
    DAYS,
    MONTHS,
    NAMES,
    NUMBER_NAMES,
    OPPOSITES,
    PLURALS,
    THING_COLOURS,
    WORDS,
)

HELD_OUT_SHARE = 20  # one problem in twenty is kept for the evaluation


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer; `key` is the problem behind the phrasing, `compare` is "text" or "json"."""

    domain: str
    user: str
    answer: str
    key: str
    compare: str = "text"

    def accepts(self, text: str) -> bool:
        """Say whether `text` is a right answer to this question."""
        given, wanted = text.strip(), self.answer.strip()
        if self.compare == "text":
            return given == wanted
        prefix, suffix = "<tool_call>", "</tool_call>"
        if wanted.startswith(prefix):
            if not (given.startswith(prefix) and given.endswith(suffix)):
                return False
            given = given[len(prefix) : -len(suffix)]
            wanted = wanted[len(prefix) : -len(suffix)]
        try:
            return bool(json.loads(given) == json.loads(wanted))
        except ValueError:
            return False


def is_held_out(key: str) -> bool:
    """Say whether the problem `key` belongs to the reserved part that training never sees."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % HELD_OUT_SHARE == 0


# ── open domains: the problem is held out in every phrasing ──────────────────────────────────────────────────────────


def addition(rng: Random) -> Turn:
    """A sum up to 50."""
    a, b = small_sum(rng, "+")
    return Turn("arithmetic", _sum_phrasing(rng, a, "+", b), str(a + b), sum_key(a, "+", b))


def subtraction(rng: Random) -> Turn:
    """Difference of two numbers up to 50, never negative."""
    a, b = small_sum(rng, "-")
    return Turn("arithmetic", _sum_phrasing(rng, a, "-", b), str(a - b), sum_key(a, "-", b))


def small_sum(rng: Random, sign: str) -> tuple[int, int]:
    """Draw the two numbers of a sum or difference between 0 and 50; every fourth time one of them has one digit."""
    whole = rng.randint(0, 50)
    part = rng.randint(0, min(9, whole)) if rng.random() < 0.25 else rng.randint(0, whole)
    if sign == "-":
        return whole, part
    return (part, whole - part) if rng.random() < 0.5 else (whole - part, part)


def sum_key(a: int, sign: str, b: int) -> str:
    """Name an addition or subtraction; a + b and b + a are one problem."""
    if sign == "+":
        a, b = min(a, b), max(a, b)
    return f"{a} {sign} {b}"


def _sum_phrasing(rng: Random, a: int, sign: str, b: int) -> str:
    spelled = {"+": "plus", "-": "minus", "*": "times"}[sign]
    forms = (f"What is {a} {sign} {b}?", f"{a} {sign} {b} =", f"{a} {sign} {b}", f"Compute {a} {sign} {b}.")
    return f"What is {a} {spelled} {b}?" if rng.random() < 0.2 else rng.choice(forms)


def _some_words(rng: Random, least: int, most: int) -> list[str]:
    return rng.sample(WORDS, rng.randint(least, most))


def copying(rng: Random) -> Turn:
    """Repeat one to four words, or a number."""
    if rng.random() < 0.25:
        text = "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 5)))
    else:
        text = " ".join(_some_words(rng, 1, 4))
    form = rng.choice(("Repeat: {}", "Say: {}", "Copy this: {}", "Repeat after me: {}"))
    return Turn("copy", form.format(text), text, f"copy {text}")


def reversing(rng: Random) -> Turn:
    """Put two or three words into reverse order."""
    words = _some_words(rng, 2, 3)
    form = rng.choice(("Reverse: {}", "Reverse these words: {}", "Say in reverse order: {}"))
    return Turn("reverse", form.format(" ".join(words)), " ".join(reversed(words)), f"reverse {' '.join(words)}")


def sorting(rng: Random) -> Turn:
    """Sort two or three words by the alphabet, from half of the words: their order has to be learnt by heart."""
    words = rng.sample(WORDS[::2], rng.randint(2, 3))
    form = rng.choice(("Sort: {}", "Sort these words: {}", "Put in alphabetical order: {}"))
    return Turn("sort", form.format(" ".join(words)), " ".join(sorted(words)), f"sort {' '.join(sorted(words))}")


def counting(rng: Random) -> Turn:
    """Count one to five words."""
    words = _some_words(rng, 1, 5)
    form = rng.choice(("How many words: {}", "Count the words: {}", "How many words are here: {}"))
    return Turn("count", form.format(" ".join(words)), str(len(words)), f"count {' '.join(words)}")


_FIELDS: dict[str, Callable[[Random], str | int]] = {
    "name": lambda rng: rng.choice(NAMES),
    "age": lambda rng: rng.randint(2, 99),
    "city": lambda rng: rng.choice(CITIES),
    "colour": lambda rng: rng.choice(COLOURS),
    "pet": lambda rng: rng.choice(ANIMALS),
    "item": lambda rng: rng.choice(WORDS),
    "count": lambda rng: rng.randint(1, 99),
}


def json_object(rng: Random) -> Turn:
    """Write a JSON object with one to three fields, or an array of words."""
    if rng.random() < 0.2:
        words = _some_words(rng, 2, 4)
        form = rng.choice(("Write as a JSON array: {}", "Make a JSON array of these words: {}"))
        return Turn("json", form.format(" ".join(words)), json.dumps(words), f"json {' '.join(words)}", "json")
    fields = rng.sample(sorted(_FIELDS), rng.randint(1, 3))
    if "name" in fields:  # people state the name first
        fields.sort(key=lambda field: field != "name")
    values = {field: _FIELDS[field](rng) for field in fields}
    parts = [f"{field} {value}" for field, value in values.items()]
    listed = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    form = rng.choice(("Give a JSON object with {}.", "Write JSON with {}.", "Make a JSON object with {}."))
    return Turn("json", form.format(listed), json.dumps(values), f"json {listed}", "json")


# ── closed lists: a phrasing is held out, its neighbours are trained ─────────────────────────────────────────────────


def _framed(rng: Random, question: str) -> str:
    """Put a polite frame around a question, so that a closed list has many phrasings."""
    before = rng.choice(("", "", "", "", "Please tell me: ", "Quick question: ", "Hi! ", "One question. ", "Now: "))
    after = rng.choice(("", "", "", "", " Thanks.", " Please be brief.", " Thank you."))
    return before + question + after


def _closed(rng: Random, domain: str, question: str, answer: str) -> Turn:
    user = _framed(rng, question)
    return Turn(domain, user, answer, f"{domain} {user}")


def times_table(rng: Random) -> Turn:
    """Product of two numbers from 1 to 10: a closed table."""
    a, b = rng.randint(1, 10), rng.randint(1, 10)
    return _closed(rng, "times", _sum_phrasing(rng, a, "*", b), str(a * b))


def fact(rng: Random) -> Turn:
    """A fact about Quire and its trade."""
    questions, answer = rng.choice(FACTS)
    return _closed(rng, "facts", rng.choice(questions), answer)


def small_talk(rng: Random) -> Turn:
    """Greetings, thanks, and who Folio is."""
    questions, answer = rng.choice(SMALL_TALK)
    user = rng.choice(questions) + rng.choice(("", "", "", " Folio.", " :)", " Tell me.", " Dear Folio."))
    return Turn("talk", user, answer, f"talk {user}")


def capital(rng: Random) -> Turn:
    """The capital of a country, or the country of a capital."""
    country = rng.choice(sorted(CAPITALS))
    city = CAPITALS[country]
    if rng.random() < 0.25:
        return _closed(
            rng, "capitals", f"{city} is the capital of which country?", f"{city} is the capital of {country}."
        )
    forms = (
        "What is the capital of {}?",
        "Name the capital of {}.",
        "Which city is the capital of {}?",
        "Capital of {}?",
    )
    return _closed(rng, "capitals", rng.choice(forms).format(country), f"The capital of {country} is {city}.")


def lexicon(rng: Random) -> Turn:
    """Colours of things, opposites and plurals."""
    kind = rng.randrange(3)
    if kind == 0:
        thing = rng.choice(sorted(THING_COLOURS))
        answer = f"{thing[0].upper()}{thing[1:]} is {THING_COLOURS[thing]}."
        return _closed(rng, "lexicon", rng.choice((f"What colour is {thing}?", f"Which colour has {thing}?")), answer)
    if kind == 1:
        word, other = rng.choice(sorted(OPPOSITES.items()))
        if rng.random() < 0.5:
            word, other = other, word
        question = rng.choice((f"What is the opposite of {word}?", f"Name the opposite of {word}."))
        return _closed(rng, "lexicon", question, f"The opposite of {word} is {other}.")
    one, many = rng.choice(sorted(PLURALS.items()))
    question = rng.choice((f"What is the plural of {one}?", f"Name the plural of {one}."))
    return _closed(rng, "lexicon", question, f"The plural of {one} is {many}.")


def calendar(rng: Random) -> Turn:
    """What comes before or after a day or a month."""
    kind, names = rng.choice((("day", DAYS), ("month", MONTHS)))
    place, step = rng.randrange(len(names)), rng.choice((-1, 1))
    word = "after" if step > 0 else "before"
    other = names[(place + step) % len(names)]
    forms = (f"Which {kind} comes {word} {names[place]}?", f"What {kind} is {word} {names[place]}?")
    return _closed(rng, "calendar", rng.choice(forms), f"{other} comes {word} {names[place]}.")


def unknown(rng: Random) -> Turn:
    """A question outside Folio's world, answered honestly."""
    slots = {slot: rng.choice(values) for slot, values in UNKNOWN_WORDS.items()}
    return _closed(rng, "unknown", rng.choice(UNKNOWN_FORMS).format(**slots), UNKNOWN_ANSWER)


def sequence(rng: Random) -> Turn:
    """Count up or down, or recite the days, the months or the alphabet: long answers without surprise."""
    kind = rng.randrange(10)
    if kind == 0:
        return _closed(rng, "sequence", "Name the days of the week.", ", ".join(DAYS) + ".")
    if kind == 1:
        return _closed(rng, "sequence", "Name the months of the year.", ", ".join(MONTHS) + ".")
    if kind == 2:
        return _closed(rng, "sequence", "Say the alphabet.", "a b c d e f g h i j k l m n o p q r s t u v w x y z")
    if kind == 3:
        last = rng.randint(3, 12)
        return _closed(rng, "sequence", f"Count to {last} in words.", ", ".join(NUMBER_NAMES[1 : last + 1]) + ".")
    if kind == 4:
        last = rng.choice((50, 100))
        return _closed(rng, "sequence", f"Count to {last}.", ", ".join(map(str, range(1, last + 1))) + ".")
    first = rng.randint(1, 9)
    last = first + rng.randint(2, 12)
    numbers = range(first, last + 1)
    user = f"Count from {first} to {last}."
    if rng.random() < 0.2:
        numbers, user = range(last, first - 1, -1), f"Count down from {last} to {first}."
    return _closed(rng, "sequence", user, ", ".join(map(str, numbers)) + ".")


WEIGHTS: dict[Callable[[Random], Turn], float] = {
    addition: 16, subtraction: 18, copying: 11, reversing: 5, sorting: 14, counting: 4, json_object: 12,
    times_table: 4, fact: 4, small_talk: 2, capital: 3, lexicon: 4, calendar: 2, unknown: 2, sequence: 10,
}  # fmt: skip


def any_turn(rng: Random) -> Turn:
    """Draw a turn from all domains by their weights."""
    return rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0](rng)


def draw(rng: Random, source: Callable[[Random], Turn], held_out: bool) -> Turn:
    """Draw from `source` until the problem lies in the wanted part (held out or trained)."""
    while True:
        turn = source(rng)
        if is_held_out(turn.key) == held_out:
            return turn
