"""Where a model's files are: a local folder first, then the hub's cache, then the hub.

A cached model is found without any connection.

Not here: what the files say (card.py).
Door: locate, Source.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from msgspec import Struct

from quire.config.env import quiet_hub
from quire.config.safetensors_header import shards
from quire.errors import CheckpointError, ModelNotFound

BUNDLED = ("folio", "quire/folio")
"""Names of the model that ships with the package."""

TEXT_FILES = ("*.json", "*.jinja", "tokenizer.model", "*.tiktoken", "*.txt")
WEIGHT_FILES = ("*.safetensors",)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


class Source(Struct, frozen=True):
    """How to look for a model. ``token`` True: the one of the user's login. ``needs_weights`` False: its texts are
    enough."""

    revision: str | None = None
    download_dir: str | None = None
    token: str | bool | None = None
    is_offline: bool = False
    needs_weights: bool = True

    @property
    def patterns(self) -> list[str]:
        return [*TEXT_FILES, *(WEIGHT_FILES if self.needs_weights else ())]


def locate(name: str, source: Source | None = None) -> Path:
    """The folder of a model named by a folder, a hub id, or ``folio``.

    Raises: ModelNotFound with the likely reason (no such folder, no such id, gated, offline, no network).
    """
    source = source or Source()
    if not name.strip():
        raise ModelNotFound("The model's name is empty; name a folder or a hub id, or leave it out for folio.")
    if name in BUNDLED and not Path(name).is_dir():
        from quire.bundled import folio_path

        return folio_path()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise ModelNotFound(f"{name} is a file; name the folder that holds config.json and *.safetensors.")
    if not _HUB_ID.fullmatch(name):
        raise ModelNotFound(f"There is no folder {name}, and it cannot be a hub id, which looks like owner/name.")
    cached = _cached(name, source)
    if cached is not None:
        return cached
    if source.is_offline:
        raise ModelNotFound(
            f"{name} is no local folder, and the hub's cache does not hold it completely; HF_HUB_OFFLINE is set, so "
            "nothing is downloaded."
        )
    return _downloaded(name, source)


def _cached(name: str, source: Source) -> Path | None:
    """The cached snapshot when it is complete. Opens no connection."""
    quiet_hub()
    from huggingface_hub import snapshot_download

    try:
        found = Path(
            snapshot_download(
                name, revision=source.revision, cache_dir=source.download_dir, local_files_only=True, token=False
            )
        )
    except (OSError, ValueError):
        return None
    return found if _is_complete(found, source) else None


def _is_complete(folder: Path, source: Source) -> bool:
    if not (folder / "config.json").is_file():
        return False
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        return False
    try:
        return bool(shards(folder)) or not source.needs_weights
    except CheckpointError:
        return False


def _downloaded(name: str, source: Source) -> Path:
    quiet_hub()
    from huggingface_hub import errors, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        folder = Path(
            snapshot_download(
                name,
                revision=source.revision,
                cache_dir=source.download_dir,
                token=source.token,
                allow_patterns=source.patterns,
            )
        )
    except errors.GatedRepoError:
        raise ModelNotFound(
            f"{name} is gated: accept its terms on its page at the hub, then log in (hf auth login) or give --hf-token."
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelNotFound(f"{name} has no revision {source.revision!r}.") from None
    except errors.RepositoryNotFoundError:
        raise ModelNotFound(
            f"There is neither a folder {name} nor such a model at the hub; check the spelling, or log in if it is "
            "private."
        ) from None
    except errors.HFValidationError:
        raise ModelNotFound(
            f"There is no folder {name}, and it cannot be a hub id, which looks like owner/name."
        ) from None
    except (OSError, errors.HfHubHTTPError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].removeprefix("Got: ").rstrip(".")
        raise ModelNotFound(
            f"{name} is no local folder and could not be fetched from the hub ({reason[:200]}). Check the spelling and "
            "the network, or name a local folder."
        ) from None
    if source.needs_weights and not shards(folder):
        raise CheckpointError(f"{name} has no .safetensors weights at the hub; pickled weights are not fetched.")
    return folder
