"""How long a context a checkpoint was made for, and the rotary settings in one spelling.

Not here: rotary embeddings themselves (layers/rotary.py), what memory allows (fit.py).
Door: with_both_spellings, read_max_model_len.
"""

from __future__ import annotations

from quire.config.json_fields import Fields

MAX_CONTEXT = 2**27
_SANE_TOKENIZER_LIMIT = 2**30
"""Tokenizer files write 10^30 for "no limit"."""


def with_both_spellings(config: dict[str, object], model_type: str) -> dict[str, object]:
    """The configuration with its rotary settings in both spellings of the field.

    One is ``rope_theta`` and ``rope_scaling`` (with ``rope_local_base_freq`` for layers that slide); the other is
    ``rope_parameters``, flat or one for each kind of layer. The first is None where nothing is scaled.
    """
    merged = dict(config)
    parameters = config.get("rope_parameters")
    if isinstance(parameters, dict) and parameters:
        full = parameters.get("full_attention", parameters)
        sliding = parameters.get("sliding_attention")
        if isinstance(full, dict):
            if full.get("rope_theta") is not None:
                merged["rope_theta"] = full["rope_theta"]
            if full.get("partial_rotary_factor") is not None:
                merged.setdefault("partial_rotary_factor", full["partial_rotary_factor"])
            kind = full.get("rope_type", full.get("type", "default"))
            merged["rope_scaling"] = (
                None if kind == "default" else {key: value for key, value in full.items() if key != "rope_theta"}
            )
        if isinstance(sliding, dict) and sliding.get("rope_theta") is not None:
            merged["rope_local_base_freq"] = sliding["rope_theta"]
        return merged
    scaling = config.get("rope_scaling")
    if not isinstance(scaling, dict):
        scaling = {}
    elif "rope_type" not in scaling and "type" in scaling:
        scaling = {**scaling, "rope_type": scaling["type"]}
        merged["rope_scaling"] = scaling
    theta = config.get("rope_theta")
    if theta is None:
        theta = 1000000.0 if model_type.startswith("gemma3") else 10000.0
    full = {"rope_type": "default", **scaling, "rope_theta": theta}
    if model_type.startswith("gemma3"):
        local = config.get("rope_local_base_freq", 10000.0)
        merged["rope_parameters"] = {
            "full_attention": full,
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
        }
    else:
        merged["rope_parameters"] = full
    return merged


def read_max_model_len(fields: Fields, model_type: str, default: int | None, tokenizer_limit: object) -> int:
    """Tokens of the longest context, after the rules of rope scaling.

    linear and dynamic: ``max_position_embeddings`` times the factor; yarn: ``original_max_position_embeddings`` times
    the factor; others: as written. Gemma 3 writes the length after scaling. A tokenizer's ``model_max_length`` is an
    upper bound where it is a real number.
    Raises: CheckpointError for malformed fields.
    """
    length = fields.whole("max_position_embeddings", 1, MAX_CONTEXT, default)
    scaling = fields.inner("rope_scaling")
    if scaling is not None and not model_type.startswith("gemma3"):
        kind = scaling.text("rope_type", scaling.text("type", "default"))
        if kind in ("linear", "dynamic"):
            length = int(length * scaling.real("factor", 1.0, 10000.0, 1.0))
        elif kind == "yarn":
            original = scaling.whole("original_max_position_embeddings", 1, MAX_CONTEXT, length)
            length = int(original * scaling.real("factor", 1.0, 10000.0, 1.0))
    if (
        isinstance(tokenizer_limit, int | float)
        and not isinstance(tokenizer_limit, bool)
        and 1 <= tokenizer_limit < _SANE_TOKENIZER_LIMIT
    ):
        length = min(length, int(tokenizer_limit))
    return min(length, MAX_CONTEXT)
