"""The exam: held-out questions by domain, and a fixed text for the perplexity; evaluate.py asks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from training.folio import grammar
from training.folio.documents import (
    SYSTEMS,
    Message,
    Piece,
    recall,
    render_chat,
    story_chat,
)
from training.folio.grammar import Turn, any_turn, draw, is_held_out
from training.folio.tools import TOOLS, Tool

DOMAINS: dict[str, tuple[Callable[[Random], Turn], ...]] = {
    "arithmetic": (grammar.addition, grammar.subtraction),
    "times": (grammar.times_table,),
    "copy": (grammar.copying,),
    "reverse": (grammar.reversing,),
    "sort": (grammar.sorting,),
    "count": (grammar.counting,),
    "json": (grammar.json_object,),
    "tools": (),
    "recall": (),
    "sequence": (grammar.sequence,),
    "facts": (grammar.fact,),
    "talk": (grammar.small_talk,),
    "capitals": (grammar.capital,),
    "lexicon": (grammar.lexicon,),
    "calendar": (grammar.calendar,),
    "unknown": (grammar.unknown,),
}
TOOL_SETS = 12  # few sets, so that questions with the same tools can be asked together


@dataclass(frozen=True, slots=True)
class Exercise:
    """A conversation that ends with a question, the tools on offer, and the turn with the right answer."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    turn: Turn


def exercise(rng: Random, domain: str) -> Exercise:
    """Draw one held-out question of `domain`: often alone, sometimes after a system message or trained turns."""
    if domain == "recall":
        messages = recall(rng, held_out=True).messages
        turn = Turn("recall", messages[-2].content, messages[-1].content, "")
        return Exercise(messages[:-1], (), turn)
    messages = (Message("system", rng.choice(SYSTEMS)),) if rng.random() < 0.3 else ()
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        before = draw(rng, any_turn, False)
        messages += (Message("user", before.user), Message("assistant", before.answer))
    tools: tuple[Tool, ...] = ()
    if domain == "tools":
        tools, turn = _tool_question(rng)
    else:
        turn = draw(rng, rng.choice(DOMAINS[domain]), True)
    return Exercise((*messages, Message("user", turn.user)), tools, turn)


def _tool_question(rng: Random) -> tuple[tuple[Tool, ...], Turn]:
    """Draw tools and a held-out request for one of them; a tool without one is passed over."""
    while True:
        of_set = Random(f"tools {rng.randrange(TOOL_SETS)}")
        tools = tuple(of_set.sample(TOOLS, of_set.choice((1, 2, 2, 3))))
        tool = rng.choice(tools)
        for _ in range(100):
            turn, _ = tool.ask(rng)
            if is_held_out(turn.key):
                return tools, turn


def exam(seed: int, count: int) -> list[Exercise]:
    """Draw `count` held-out exercises of every domain; no exercise twice."""
    exercises: list[Exercise] = []
    for domain in DOMAINS:
        rng, seen = Random(f"exam {seed} {domain}"), set[tuple[Message, ...]]()
        for _ in range(100 * count):
            drawn = exercise(rng, domain)
            if drawn.messages not in seen:
                seen.add(drawn.messages)
                exercises.append(drawn)
            if len(seen) == count:
                break
    return exercises


def perplexity_text(seed: int = 1, count: int = 12, stories: int = 40) -> list[list[Piece]]:
    """Return fixed documents for the perplexity: `count` held-out exercises a domain with answers, and some stories."""
    documents = []
    for drawn in exam(seed, count):
        pieces = render_chat((*drawn.messages, Message("assistant", drawn.turn.answer)), drawn.tools)
        last = max(place for place, piece in enumerate(pieces) if piece.trained)
        documents.append([Piece(piece.text, place == last) for place, piece in enumerate(pieces)])
    rng = Random(f"stories {seed}")
    for _ in range(stories):
        documents.append(render_chat(story_chat(rng).messages))
    return documents
