"""``python -m quire.entrypoints.openai.api_server --model X`` is ``quire serve X``."""

from __future__ import annotations

import sys

from quire.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["serve", *sys.argv[1:]]))
