"""How weights are to be quantised when they are loaded, and where they are kept then.

Not here: what that takes (fit.py, quantization.py), doing it (worker/quantise.py,
packed_cache.py).
Door: decide_quantization, decide_packed_cache, scheme_of.
"""

from __future__ import annotations

import os
from pathlib import Path

from quire import plugins
from quire.config.asked import EngineOptions
from quire.config.card import Card
from quire.config.env import Env
from quire.config.ledger import Ledger
from quire.config.quantization import Form, Scheme
from quire.errors import UnsupportedFlag

_NONE = ("none", "None")
_FORMATS = ("awq", "awq_marlin", "bitsandbytes", "compressed-tensors", "fp8", "gguf", "gptq", "gptq_marlin", "mxfp4")
"""Formats of checkpoints that people know by these names elsewhere; Quire quantises plain weights by itself."""


def decide_quantization(asked: str | None, card: Card, ledger: Ledger) -> str | None:
    """A name on the shelf quant, or None.

    Raises: UnsupportedFlag, which lists the shelf, for any other name.
    """
    if asked is None or asked in _NONE:
        ledger.note("quantization", "none", f"weights stay in {card.dtype} or what --dtype says")
        return None
    shelf = plugins.names("quant")
    if asked not in shelf:
        known = " names a format of checkpoints, which is not served yet" if asked in _FORMATS else " is unknown"
        raise UnsupportedFlag(
            f"--quantization {asked}{known}; Quire quantises plain weights when it loads them, as: {', '.join(shelf)}, "
            "or none."
        )
    scheme = scheme_of(asked)
    assert scheme is not None
    ledger.note("quantization", asked, f"{_told(scheme.projections)}; the head {_told(scheme.head)}")
    return asked


def decide_packed_cache(options: EngineOptions, env: Env, ledger: Ledger) -> tuple[str, int]:
    """Where quantised weights are kept between starts, and how many bytes of them."""
    cap_bytes = options.load.packed_cache_bytes
    folder = Path(env.cache_home or os.path.expanduser("~/.cache")) / "quire" / "packed"
    kept = f"in {folder}, so that the next start need not quantise" if cap_bytes else "quantised at each start"
    ledger.note("packed_cache_bytes", cap_bytes, kept)
    return str(folder), cap_bytes


def scheme_of(name: str | None) -> Scheme | None:
    """What a name on the shelf stands for."""
    if name is None:
        return None
    scheme = plugins.load("quant", name).SCHEME
    assert isinstance(scheme, Scheme)
    return scheme


def _told(form: Form) -> str:
    scales = "a scale for each column" if form.group is None else f"a scale for each {form.group}"
    zeros = " and a zero point" if form.zero_points else ""
    inputs = ", inputs in 8 bits too" if form.int8_inputs else ""
    return f"{form.bits} bits with {scales}{zeros}{inputs}"
