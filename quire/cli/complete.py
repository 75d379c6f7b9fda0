"""``quire complete``: a server continues raw text in the terminal; no template, no history.

Not here: the wire (_remote.py), conversations (chat.py).
"""

from __future__ import annotations

import argparse

from quire.cli._remote import Remote, add_remote_arguments, each_line, open_remote, say

HELP = "let a server continue text in the terminal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    add_remote_arguments(parser)
    parser.add_argument("--max-tokens", type=int, metavar="N", help="at most so many tokens; else the server's default")


def run(args: argparse.Namespace) -> int:
    """Continue what the person types until they have had enough; with ``--quick`` one text."""
    remote, model = open_remote(args)
    with remote:
        if args.quick is not None:
            complete(remote, model, args.quick, args.max_tokens, shows_stats=args.stats)
            return 0
        print(f"{model} at {remote.url} continues each line. Ctrl-C stops an answer, Ctrl-D ends.")
        each_line(lambda line: complete(remote, model, line, args.max_tokens, shows_stats=args.stats))
    return 0


def complete(remote: Remote, model: str, text: str, max_tokens: int | None, *, shows_stats: bool) -> str:
    """Print the continuation of a text as it comes, and give it back.

    Raises: RemoteError.
    """
    body: dict[str, object] = {"model": model, "prompt": text}
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    return say(remote.stream("/completions", body), shows_stats=shows_stats)
