"""``quire chat``: a conversation with a server in the terminal; the server is told the whole of it each time.

Not here: the wire (_remote.py), continuing raw text (complete.py).
"""

from __future__ import annotations

import argparse

from quire.cli._remote import Remote, add_remote_arguments, each_line, open_remote, say

HELP = "talk to a server in the terminal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    add_remote_arguments(parser)
    parser.add_argument("--system-prompt", metavar="TEXT", help="what the model is told first")


def run(args: argparse.Namespace) -> int:
    """Talk until the person has had enough; with ``--quick`` one answer."""
    remote, model = open_remote(args)
    with remote:
        chat = Chat(remote, model, args.system_prompt, shows_stats=args.stats)
        if args.quick is not None:
            chat.tell(args.quick)
            return 0
        print(f"Talking to {model} at {remote.url}. Ctrl-C stops an answer, Ctrl-D ends.")
        each_line(chat.tell)
    return 0


class Chat:
    """A conversation so far. A message that could not be answered is not kept."""

    def __init__(self, remote: Remote, model: str, system_prompt: str | None, *, shows_stats: bool = False) -> None:
        self._remote = remote
        self._model = model
        self._shows_stats = shows_stats
        self.messages: list[dict[str, str]] = []
        if system_prompt:
            self.messages.append({"role": "system", "content": system_prompt})

    def tell(self, text: str) -> str:
        """Say something, print the answer as it comes, and remember both.

        Raises: RemoteError.
        """
        messages = [*self.messages, {"role": "user", "content": text}]
        pieces = self._remote.stream("/chat/completions", {"model": self._model, "messages": messages})
        answer = say(pieces, shows_stats=self._shows_stats)
        self.messages = [*messages, {"role": "assistant", "content": answer}]
        return answer
