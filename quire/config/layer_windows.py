"""Which layers attend to a window, from the several ways in which config.json says it.

Not here: what a window does (attention/), how windows group layers (kv_layout.py).
Door: read_windows.
"""

from __future__ import annotations

from quire.config.families import family_default
from quire.config.json_fields import Fields
from quire.errors import UnsupportedModel

_NEVER_WINDOWED = ("llama", "gemma")


def read_windows(fields: Fields, model_type: str, num_layers: int) -> tuple[int | None, ...]:
    """For each layer, how many tokens (itself included) a token attends to; None: all.

    Raises: CheckpointError for a malformed field, UnsupportedModel for a kind of layer that is not attention.
    """
    window = _window(fields, model_type)
    kinds = fields.texts("layer_types")
    if kinds:
        if len(kinds) != num_layers:
            raise fields.refuse("layer_types", f"one kind for each of the {num_layers} layers")
        for kind in kinds:
            if kind not in ("full_attention", "sliding_attention"):
                raise UnsupportedModel(
                    f"{fields.file}: layers of kind {kind!r} are not served; only full_attention and sliding_attention "
                    "are."
                )
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)
    if window is None:
        return (None,) * num_layers
    return tuple(window if _slides(fields, model_type, layer) else None for layer in range(num_layers))


def _window(fields: Fields, model_type: str) -> int | None:
    if model_type in _NEVER_WINDOWED:
        return None
    if model_type.startswith("qwen") and not fields.truth("use_sliding_window", False):
        return None
    if not fields.truth("use_sliding_window", True):
        return None
    if "sliding_window" in fields.values and fields.values["sliding_window"] is None:
        return None
    default = family_default(model_type, "sliding_window")
    if default is None and not fields.has("sliding_window"):
        return None
    return fields.whole("sliding_window", 1, 2**31 - 1, default)


def _slides(fields: Fields, model_type: str, layer: int) -> bool:
    if model_type.startswith("qwen"):
        return layer >= fields.whole(
            "max_window_layers", 0, 2**31 - 1, family_default(model_type, "max_window_layers") or 28
        )
    if model_type == "gemma2":
        return layer % 2 == 0
    if model_type.startswith("gemma3"):
        return (layer + 1) % fields.whole("sliding_window_pattern", 1, 2**31 - 1, 6) != 0
    return True
