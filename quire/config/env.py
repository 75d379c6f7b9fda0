"""The environment variables that Quire reads: all of them, and nowhere else.

The hub's own (HF_TOKEN, HF_HOME, HF_HUB_OFFLINE, ...) are read by its library; of these, only whether it is offline
matters here.

Door: read_env, Env, quiet_hub.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from msgspec import Struct

from quire.errors import ConfigError

_TRUE = ("1", "true", "yes", "on")


class Env(Struct, frozen=True):
    """What the environment says."""

    api_keys: tuple[str, ...] = ()
    """QUIRE_API_KEY, several separated by commas."""
    num_threads: int = 0
    """OMP_NUM_THREADS; 0: unset."""
    is_offline: bool = False
    """HF_HUB_OFFLINE."""
    cache_home: str = ""
    """XDG_CACHE_HOME; empty: ~/.cache."""
    isa: str = ""
    """QUIRE_ISA: use no better instructions than these (portable; avx2, avx512, avx512bf16; on Arm neon, neonbf16), for
    tests; empty: the processor's best."""


def read_env(variables: Mapping[str, str] | None = None) -> Env:
    """Read the environment.

    Raises: ConfigError when OMP_NUM_THREADS is no positive number.
    """
    found = os.environ if variables is None else variables
    # A list such as "4,2" is for nested regions; the first number is ours.
    threads = found.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if threads and not (threads.isdecimal() and int(threads) > 0):
        raise ConfigError(f"OMP_NUM_THREADS is {threads!r}; unset it or make it a positive number.")
    keys = (key.strip() for key in found.get("QUIRE_API_KEY", "").split(","))
    return Env(
        api_keys=tuple(key for key in keys if key),
        num_threads=int(threads or 0),
        is_offline=found.get("HF_HUB_OFFLINE", "").lower() in _TRUE,
        cache_home=found.get("XDG_CACHE_HOME", ""),
        isa=found.get("QUIRE_ISA", "").strip().lower(),
    )


def quiet_hub() -> None:
    """Keep the hub's library from reporting what it is used for. Must come before its import."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
