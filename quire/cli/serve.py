"""``quire serve``: take the port, decide, start the server.

Not here: what is decided (config/resolve.py), the server itself (assemble.py, server/).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from quire.cli._arguments import print_help
from quire.config.flags import read_command_line

HELP = "serve a model over HTTP, as OpenAI's API does"

_INTRO = """Serve a model. Without a model it is folio, which ships with Quire.

    quire serve
    quire serve Qwen/Qwen3-0.6B --port 9000 --max-model-len 8k
"""


def run(arguments: Sequence[str]) -> int:
    """Serve until the process is told to stop."""
    if print_help("quire serve", arguments, _INTRO):
        return 0
    asked = read_command_line(arguments, prog="quire serve")
    from quire.server.listen import listen

    with listen(asked.server.host, asked.server.port, asked.server.uds) as listener:
        from setproctitle import setproctitle

        from quire.config.resolve import resolve

        setproctitle("quire front")

        decided = resolve(asked)
        for notice in decided.notices:
            print(f"quire: {notice}", file=sys.stderr)
        from quire import assemble

        return assemble.serve(decided, listener)
