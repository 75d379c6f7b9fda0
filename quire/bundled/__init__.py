"""The model that ships inside the package, so that Quire can be tried and tested without a download.

Only files and the path to them live here; how Folio was made is in `training/folio/` of the source tree.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["folio_path"]


def folio_path() -> Path:
    """Return the folder of Folio, the bundled chat model: weights, config and tokenizer as in any model folder."""
    return Path(__file__).resolve().parent / "folio"
