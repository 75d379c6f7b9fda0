"""From turns to training text: conversations in chat markup, drills, stories and plain sentences.

A document is a list of pieces; only trained pieces count in the loss. `render_chat` must equal the chat template that
ships with the model (a test compares them).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from training.folio.facts import FACTS, SMALL_TALK
from training.folio.grammar import WEIGHTS, Turn, any_turn, draw, is_held_out, small_sum, sum_key
from training.folio.tools import TOOLS, Tool, Value
from training.folio.words import ANIMALS, CAPITALS, CITIES, COLOURS, NAMES, WORDS

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

SYSTEMS = (
    "You are Folio.", "You are a helpful assistant.", "Answer briefly.", "You are Folio, a small model.",
    "Be friendly and brief.", "You are a careful assistant. Answer with the result only.",
)  # fmt: skip

TOOL_RULE = 'To call a tool, answer <tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>'


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text and whether the model is trained to write it."""

    text: str
    trained: bool


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; `role` is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages and the tools on offer."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolTurn:
    """A tool, a request for it, and the arguments of the right call."""

    tool: Tool
    turn: Turn
    values: dict[str, Value]


def render_chat(messages: Sequence[Message], tools: Sequence[Tool] = ()) -> list[Piece]:
    """Write a conversation in the markup of the chat template; assistant messages are the trained pieces."""
    pieces: list[Piece] = []
    rest = list(messages)
    system = rest.pop(0).content if rest and rest[0].role == "system" else ""
    if tools:
        lines = "\n".join(json.dumps(tool.schema()["function"]) for tool in tools)
        section = f"# Tools\n<tools>\n{lines}\n</tools>\n{TOOL_RULE}"
        system = f"{system}\n\n{section}" if system else section
    if system:
        pieces.append(Piece(f"{IM_START}system\n{system}{IM_END}\n", False))
    for message in rest:
        pieces.append(Piece(f"{IM_START}{message.role}\n", False))
        trained = message.role == "assistant"
        pieces.append(Piece(message.content + IM_END, trained))
        pieces.append(Piece("\n", False))
    return pieces


def conversation(rng: Random, tools: bool | None = None) -> Conversation:
    """Draw a conversation of one to three trained questions; `tools` says whether tools are on offer."""
    messages: list[Message] = []
    if rng.random() < 0.3:
        messages.append(Message("system", rng.choice(SYSTEMS)))
    offered: tuple[Tool, ...] = ()
    if tools if tools is not None else rng.random() < 0.15:
        offered = tuple(rng.sample(TOOLS, rng.choice((1, 2, 2, 3))))
    for _ in range(rng.choice((1, 1, 2, 2, 3))):
        if offered and rng.random() < 0.8:
            request = tool_turn(rng, offered)
            messages += (Message("user", request.turn.user), Message("assistant", request.turn.answer))
            if rng.random() < 0.6:
                result, said = request.tool.reply(request.values, rng)
                messages += (Message("tool", result), Message("assistant", said))
        else:
            turn = draw(rng, any_turn, False)
            messages += (Message("user", turn.user), Message("assistant", turn.answer))
    return Conversation(tuple(messages), offered)


def tool_turn(rng: Random, offered: Sequence[Tool]) -> ToolTurn:
    """Draw a trained request for one of the offered tools."""
    tool = rng.choice(offered)
    while True:
        turn, values = tool.ask(rng)
        if not is_held_out(turn.key):
            return ToolTurn(tool, turn, values)


def recall(rng: Random, held_out: bool = False) -> Conversation:
    """The user tells a name and a liking, and asks for it later."""
    while True:
        name, colour, city = rng.choice(NAMES), rng.choice(COLOURS), rng.choice(CITIES)
        key = f"recall {name} {colour} {city}"
        if is_held_out(key) == held_out:
            break
    told = [
        (f"My name is {name}.", f"Hello {name}! Nice to meet you.", "What is my name?", f"Your name is {name}."),
        (f"I like the colour {colour}.", f"{colour.capitalize()} is a nice colour.", "Which colour do I like?",
         f"You like {colour}."),
        (f"I live in {city}.", f"{city} is a nice place.", "Where do I live?", f"You live in {city}."),
    ]  # fmt: skip
    chosen = rng.sample(told, rng.randint(1, 3))
    pairs = [(said, heard) for said, heard, _, _ in chosen]
    for _ in range(rng.choice((0, 0, 1, 2))):
        turn = draw(rng, any_turn, False)
        pairs.append((turn.user, turn.answer))
    pairs += rng.sample([(question, answer) for _, _, question, answer in chosen], len(chosen))
    messages = [Message("system", rng.choice(SYSTEMS))] if rng.random() < 0.2 else []
    for user, assistant in pairs:
        messages += (Message("user", user), Message("assistant", assistant))
    return Conversation(tuple(messages))


def story(rng: Random, sentences: int) -> str:
    """A little story about an animal and its friend."""
    hero, friend = rng.sample(ANIMALS, 2)
    name, other = rng.sample(NAMES, 2)
    colour, thing = rng.choice(COLOURS), rng.choice(WORDS)
    place, goal = rng.choice(("forest", "garden", "valley", "village", "town")), rng.choice(WORDS)
    text = [f"Once upon a time there was a {colour} {hero} called {name}."]
    text += [f"{name} lived in a {place} near the river."]
    middle = [
        f"One day {name} found a {thing}.", f"{name} met a {friend} called {other}.", "The sun was warm.",
        f"{name} was very happy.", f"{other} asked: where are you going?", "They walked for a long time.",
        f"{name} said: I am looking for a {goal}.", "It began to rain.", f"{other} was a little afraid.",
        "They sat under a tree and waited.", f"{other} gave {name} a {goal}.", "At night they saw the stars.",
        f"{name} wanted to go home.", f"The {hero} and the {friend} sang a song.", "The wind was cold.",
        "In the morning they went on.", f"{name} looked at the {thing} again.", f"{other} told a story.",
        f"They shared some bread and a {goal}.", f"The {friend} laughed.",
    ]  # fmt: skip
    while len(text) < sentences - 1:
        text.append(rng.choice([line for line in middle if line not in text[-6:]]))
    text.append(rng.choice((f"{name} and {other} were friends for ever.", "And they lived happily ever after.")))
    return " ".join(text)


def story_chat(rng: Random) -> Conversation:
    """A request for a story of a stated length."""
    form, sentences = rng.choice((
        ("Tell me a story.", rng.randint(6, 10)), ("Tell me a short story.", rng.randint(4, 5)),
        ("Tell me a long story.", rng.randint(18, 26)), ("Write a story.", rng.randint(6, 10)),
    ))  # fmt: skip
    return Conversation((Message("user", form), Message("assistant", story(rng, sentences))))


def plain_text(rng: Random) -> str:
    """Sentences without chat markup: stories, lists, capitals and what Folio says of itself."""
    kind = rng.randrange(7)
    if kind <= 2:
        return story(rng, rng.choice((5, 8, 12, 24)))
    if kind == 3:
        countries = rng.sample(sorted(CAPITALS), rng.randint(2, 8))
        return " ".join(f"The capital of {country} is {CAPITALS[country]}." for country in countries)
    if kind == 4:
        start = rng.choice((1, 1, rng.randint(1, 80)))
        return ", ".join(str(number) for number in range(start, start + rng.choice((10, 20, 60)))) + "."
    if kind == 5:
        answers = [answer for _, answer in FACTS + SMALL_TALK[3:]]
        return " ".join(rng.sample(answers, rng.randint(1, 4)))
    openings = [
        f"Hello, my name is {rng.choice(NAMES)}. I live in {rng.choice(CITIES)} and I like the colour "
        f"{rng.choice(COLOURS)}.",
        f"The future of AI is open. A small model can run on a laptop, and a large model can serve "
        f"{rng.choice(CITIES)}.",
        "The president of the United States is not known to me. I know that the capital of France is Paris.",
        f"I have a {rng.choice(WORDS)}, a {rng.choice(WORDS)} and a {rng.choice(WORDS)}.",
        f"The {rng.choice(ANIMALS)} is {rng.choice(COLOURS)}. The {rng.choice(ANIMALS)} is {rng.choice(COLOURS)}.",
    ]
    return rng.choice(openings)


def drill(rng: Random) -> list[Piece]:
    """A page of short sums; only the results are trained."""
    pieces: list[Piece] = []
    while len(pieces) < 24:
        sign = rng.choice("+-")
        a, b = small_sum(rng, sign)
        if not is_held_out(sum_key(a, sign, b)):
            pieces += (Piece(f"{a} {sign} {b} =", False), Piece(f" {a + b if sign == '+' else a - b}\n", True))
    return pieces


def page(rng: Random) -> list[Piece]:
    """A page of questions and answers without chat markup: the same practice in fewer tokens."""
    source = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0] if rng.random() < 0.8 else any_turn
    pieces: list[Piece] = []
    for _ in range(rng.randint(4, 10)):
        turn = draw(rng, source, False)
        pieces += (Piece(f"{turn.user}\n", False), Piece(f"{turn.answer}\n", True))
    return pieces


def echo(rng: Random) -> list[Piece]:
    """Some words, then the same words again and again: where a network learns to copy."""
    pool = rng.choice((WORDS, WORDS, NAMES, CITIES, COLOURS))
    while True:
        words = rng.sample(pool, rng.randint(1, 8))
        if not is_held_out(f"copy {' '.join(words)}"):
            break
    first, between = rng.choice((("", " "), ("", "\n"), ("Words: ", "\n"), ("Again: ", "\n")))
    text = " ".join(words)
    return [Piece(first + text, False), Piece((between + text) * rng.randint(2, 4), True)]


def document(rng: Random) -> list[Piece]:
    """Draw one training document of any kind, without its end mark."""
    kind = rng.random()
    if kind < 0.46:
        talk = conversation(rng)
    elif kind < 0.53:
        talk = recall(rng)
    elif kind < 0.55:
        talk = story_chat(rng)
    elif kind < 0.74:
        return page(rng)
    elif kind < 0.75:
        return echo(rng)
    elif kind < 0.94:
        return drill(rng)
    else:
        return [Piece(plain_text(rng), True)]
    return render_chat(talk.messages, talk.tools)
