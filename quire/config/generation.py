"""generation_config.json: a model's sampling defaults and its ends of sequence, from a file nobody vouched for.

Not here: how they combine with what a request asks (text/validate.py).
Door: Generation, read_generation, defaults_from.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct, field

from quire.config.decided import GenerationDefaults
from quire.config.json_fields import Fields, read_json

MAX_TOKENS = 2**31 - 1


class Generation(Struct, frozen=True):
    """What a model's generation_config.json says."""

    defaults: GenerationDefaults = field(default_factory=GenerationDefaults)
    eos_token_ids: tuple[int, ...] = ()


def read_generation(folder: Path, vocab_size: int) -> Generation:
    """What the folder's generation_config.json says; nothing where there is no such file.

    Raises: CheckpointError for a value of the wrong kind or outside its bounds.
    """
    path = folder / "generation_config.json"
    if not path.exists():
        return Generation()
    fields = Fields(path, read_json(path))
    return Generation(defaults_from(fields), fields.ids("eos_token_id", vocab_size))


def defaults_from(fields: Fields) -> GenerationDefaults:
    """Sampling defaults among the fields; others are left alone. The bounds are those of requests (text/limits.py): a
    default outside would have every request refused.

    Raises: CheckpointError for a value of the wrong kind or outside its bounds.
    """

    def real(name: str, low: float, high: float) -> float | None:
        return fields.real(name, low, high) if fields.has(name) else None

    def whole(name: str, low: int) -> int | None:
        return fields.whole(name, low, MAX_TOKENS) if fields.has(name) else None

    limit = "max_new_tokens" if fields.has("max_new_tokens") else "max_tokens"
    return GenerationDefaults(
        temperature=real("temperature", 0.0, 2.0),
        top_p=real("top_p", 1e-9, 1.0),
        top_k=whole("top_k", -1),
        min_p=real("min_p", 0.0, 1.0),
        repetition_penalty=real("repetition_penalty", 0.01, 100.0),
        presence_penalty=real("presence_penalty", -2.0, 2.0),
        frequency_penalty=real("frequency_penalty", -2.0, 2.0),
        max_tokens=whole(limit, 1),
    )
