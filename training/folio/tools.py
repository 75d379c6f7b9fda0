"""Questions that are answered by a tool call, and how a tool's reply is put into words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from training.folio.grammar import Turn
from training.folio.words import CITIES, COLOURS, NAMES, WORDS

Value = str | int


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that Folio may call: its name, purpose, typed arguments and the sentences that ask for it."""

    name: str
    description: str
    arguments: tuple[tuple[str, str], ...]
    requests: tuple[str, ...]
    reply: Callable[[dict[str, Value], Random], tuple[str, str]]

    def schema(self) -> dict[str, object]:
        """Return the tool as an OpenAI function definition."""
        properties = {name: {"type": kind} for name, kind in self.arguments}
        parameters = {"type": "object", "properties": properties, "required": [name for name, _ in self.arguments]}
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}

    def ask(self, rng: Random) -> tuple[Turn, dict[str, Value]]:
        """Draw a request for this tool; return the turn and the arguments of the call."""
        values: dict[str, Value] = {name: _VALUES[name](rng) for name, _ in self.arguments}
        user = rng.choice(self.requests).format(**values)
        key = f"tool {self.name} {json.dumps(values)}"
        return Turn("tools", user, call_text(self.name, values), key, "json"), values


def call_text(name: str, arguments: dict[str, Value]) -> str:
    """Write a tool call the way the chat template does."""
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": arguments}) + "\n</tool_call>"


_VALUES: dict[str, Callable[[Random], Value]] = {
    "city": lambda rng: rng.choice(CITIES),
    "start": lambda rng: rng.choice(CITIES),
    "to": lambda rng: rng.choice(NAMES),
    "name": lambda rng: rng.choice(NAMES),
    "text": lambda rng: " ".join(rng.sample(WORDS, rng.randint(1, 3))),
    "query": lambda rng: " ".join(rng.sample(WORDS, rng.randint(1, 2))),
    "minutes": lambda rng: rng.randint(1, 90),
    "volume": lambda rng: rng.randint(0, 99),
    "colour": lambda rng: rng.choice(COLOURS),
    "count": lambda rng: rng.randint(2, 40),
    "item": lambda rng: rng.choice(WORDS),
}


def _weather(values: dict[str, Value], rng: Random) -> tuple[str, str]:
    sky, degrees = rng.choice(("sunny", "cloudy", "rainy", "windy")), rng.randint(1, 35)
    said = f"It is {sky} in {values['city']}, {degrees} degrees."
    return json.dumps({"weather": sky, "degrees": degrees}), said


def _time(values: dict[str, Value], rng: Random) -> tuple[str, str]:
    clock = f"{rng.randint(10, 23)}:{rng.randint(10, 59)}"
    return json.dumps({"time": clock}), f"It is {clock} in {values['city']}."


def _done(values: dict[str, Value], rng: Random) -> tuple[str, str]:
    return ('{"ok": true}', "Done.") if rng.random() < 0.8 else ('{"ok": false}', "Sorry, that did not work.")


def _found(values: dict[str, Value], rng: Random) -> tuple[str, str]:
    count = rng.randint(1, 60)
    return json.dumps({"results": count}), f"I found {count} results."


TOOLS = (
    Tool("get_weather", "Get the weather in a city.", (("city", "string"),),
         ("What is the weather in {city}?", "How is the weather in {city}?", "Tell me the weather in {city}.",
          "Is it raining in {city}?", "What's the weather like in {city}?"), _weather),
    Tool("get_time", "Get the time in a city.", (("city", "string"),),
         ("What time is it in {city}?", "Tell me the time in {city}.", "What is the time in {city}?"), _time),
    Tool("send_message", "Send a message to a person.", (("to", "string"), ("text", "string")),
         ("Send {to} the message: {text}", "Send a message to {to}: {text}", "Write to {to}: {text}"), _done),
    Tool("set_timer", "Set a timer.", (("minutes", "integer"),),
         ("Set a timer for {minutes} minutes.", "Start a timer of {minutes} minutes."), _done),
    Tool("search", "Search the web.", (("query", "string"),),
         ("Search for {query}.", "Look up {query}.", "Search the web for {query}."), _found),
    Tool("set_volume", "Set the volume.", (("volume", "integer"),),
         ("Set the volume to {volume}.", "Change the volume to {volume}."), _done),
    Tool("set_light", "Set the colour of the light.", (("colour", "string"),),
         ("Make the light {colour}.", "Set the light to {colour}.", "Turn the light {colour}."), _done),
    Tool("call_person", "Call a person.", (("name", "string"),),
         ("Call {name}.", "Please call {name}.", "Phone {name}."), _done),
    Tool("buy_item", "Buy things.", (("item", "string"), ("count", "integer")),
         ("Buy {count} of item {item}.", "Order {count} of item {item}."), _done),
    Tool("find_route", "Find a route between two cities.", (("start", "string"), ("city", "string")),
         ("How do I get from {start} to {city}?", "Find a route from {start} to {city}."), _done),
)  # fmt: skip
