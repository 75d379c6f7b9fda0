"""Options of text: sampling defaults, chat templates.

Not here: reading generation_config.json (generation.py), rendering (text/template.py).
Door: TextOptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quire.config.option import option


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """What a request gets that does not say otherwise."""

    generation_config: str = option(
        "auto", "Sampling defaults: auto takes the model's, vllm none, a folder that folder's generation_config.json."
    )
    override_generation_config: Mapping[str, object] | None = option(
        None, "Sampling defaults as a JSON object, over those of the model.", kind="json"
    )
    chat_template: str | None = option(
        None, "File of a Jinja chat template, or the template itself, instead of the model's.", kind="text"
    )
