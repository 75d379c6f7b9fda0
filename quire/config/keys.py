"""The file of keys: who may ask, and how much.

    keys:
      - name: search
        sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        weight: 2
        max_concurrency: 8
        tokens_per_minute: 100000
        models: [folio]
        shares_prefixes: true

A key itself is in no file: ``printf %s "$KEY" | sha256sum`` gives its digest.

Not here: who keeps to the limits (server/quotas.py, scheduler/policies/fair.py).
Door: ApiKey, ANYBODY, plain_key, read_keys.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec
import yaml
from msgspec import Meta, Struct

from quire.errors import ConfigError

MAX_BYTES = 2**20

_Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
_Digest = Annotated[str, Meta(pattern=r"\A[0-9a-fA-F]{64}\Z")]
_Weight = Annotated[float, Meta(gt=0, le=1e6)]
_Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class ApiKey(Struct, frozen=True, forbid_unknown_fields=True):
    """One key. ``name`` may stand in logs and metrics; it is empty for the keys of ``--api-key``."""

    name: _Name
    sha256: _Digest
    weight: _Weight = 1.0
    """Its share of the engine beside other keys that want it too, under ``--scheduling-policy fair``."""
    max_concurrency: _Count | None = None
    """Most requests at a time."""
    tokens_per_minute: _Count | None = None
    """Prompt and output tokens together, averaged; a minute's worth may be used at once."""
    models: tuple[str, ...] | None = None
    """Names that it may use; None: all."""
    shares_prefixes: bool = False
    """Whether its prompts may be found in the prefix cache by other keys that share theirs."""


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    keys: tuple[ApiKey, ...]


ANYBODY = ApiKey("", "0" * 64, shares_prefixes=True)
"""Whoever asks a server without keys."""


def plain_key(key: str) -> ApiKey:
    """A key of ``--api-key``: without a name, without limits."""
    return ApiKey("", hashlib.sha256(key.encode()).hexdigest(), shares_prefixes=True)


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys of a file.

    Raises: ConfigError, one line that names the file and what is wrong with it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"--api-keys-file {path}: larger than {MAX_BYTES} bytes.")
        keys = msgspec.convert(yaml.safe_load(content), _File).keys
    except OSError as error:
        raise ConfigError(f"--api-keys-file {path}: cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"--api-keys-file {path}: {' '.join(str(error).split())}.") from None
    for field in ("name", "sha256"):
        values = [getattr(key, field).lower() for key in keys]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise ConfigError(f"--api-keys-file {path}: two keys have the {field} {twice[:64]!r}.")
    if not keys:
        raise ConfigError(f"--api-keys-file {path}: there is no key.")
    return keys
