"""The slice of text/: tokenizer, templates, sampling defaults, bounds of a request.

Not here: everything else that is decided (resolve.py).
Door: decide_text.
"""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import asdict

from quire.config.asked import EngineOptions
from quire.config.card import Card
from quire.config.decided import GenerationDefaults, TextConfig
from quire.config.fit import MemoryPlan
from quire.config.generation import defaults_from, read_generation
from quire.config.json_fields import Fields
from quire.config.ledger import Ledger
from quire.errors import CheckpointError, ConfigError

_MAX_TEMPLATE_BYTES = 1 << 20
_SAMPLING_KEYS = frozenset(GenerationDefaults.__struct_fields__) | {"max_new_tokens"}


def decide_text(
    options: EngineOptions, card: Card, plan: MemoryPlan, tokenizer_path: str, ledger: Ledger
) -> TextConfig:
    """Decide the slice of text/.

    Raises: ConfigError for a template or sampling defaults that cannot be used.
    """
    model = options.model
    defaults = _defaults(options, card, ledger)
    ledger.note("max_logprobs", model.max_logprobs, "most that a request may ask for")
    template = read_template(options.text.chat_template)
    ledger.note("chat_template", "the checkpoint's" if template is None else "given", "renders conversations")
    ledger.note("skip_tokenizer_init", model.skip_tokenizer_init, "whether prompts can be texts")
    ledger.note("logits_processors", " ".join(model.logits_processors) or "none", "what requests may name")
    return TextConfig(
        tokenizer_path=tokenizer_path,
        vocab_size=card.vocab_size,
        max_model_len=plan.max_model_len,
        max_num_tokens=plan.num_tokens,
        eos_token_ids=card.eos_token_ids,
        defaults=defaults,
        max_logprobs=model.max_logprobs,
        seed=model.seed,
        chat_template=template,
        logits_processors=model.logits_processors,
        skip_tokenizer_init=model.skip_tokenizer_init,
    )


def read_template(asked: str | None) -> str | None:
    """A chat template's text, from a file or as it is; None for none.

    Raises: ConfigError when it is neither, or larger than 1 MiB.
    """
    if asked is None:
        return None
    text = asked
    if "\n" not in asked and "{" not in asked:
        path = Path(asked).expanduser()
        try:
            if path.stat().st_size > _MAX_TEMPLATE_BYTES:
                raise ConfigError(f"--chat-template {asked}: larger than {_MAX_TEMPLATE_BYTES} bytes.")
            text = path.read_text()
        except OSError as error:
            raise ConfigError(f"--chat-template {asked}: no such template file: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise ConfigError(f"--chat-template {asked}: is no UTF-8 text.") from None
    if not text.strip():
        raise ConfigError("--chat-template is empty; leave it out to take the checkpoint's.")
    return text


def _defaults(options: EngineOptions, card: Card, ledger: Ledger) -> GenerationDefaults:
    asked = options.text.generation_config
    if asked == "auto":
        found, origin = card.generation, "the checkpoint's generation_config.json"
    elif asked == "vllm":
        found, origin = GenerationDefaults(), "none of the checkpoint's, as asked"
    else:
        folder = Path(asked).expanduser()
        if not (folder / "generation_config.json").is_file():
            raise ConfigError(f"--generation-config {asked}: there is no generation_config.json in this folder.")
        found, origin = read_generation(folder, card.vocab_size).defaults, f"{asked}/generation_config.json"
    override = options.text.override_generation_config
    if override:
        strange = sorted(set(override) - _SAMPLING_KEYS)
        if strange:
            known = ", ".join(sorted(_SAMPLING_KEYS))
            raise ConfigError(
                f"--override-generation-config: {strange[0]!r} is no sampling default; these are: {known}."
            )
        try:
            over = defaults_from(Fields(Path("--override-generation-config"), override))
        except CheckpointError as error:
            raise ConfigError(error.message) from None
        given = {name: value for name, value in asdict(over).items() if value is not None}
        found = GenerationDefaults(**{**asdict(found), **given})
        origin += ", with --override-generation-config over it"
    shown = ", ".join(f"{name}={value}" for name, value in asdict(found).items() if value is not None)
    ledger.note("generation_config", shown or "neutral", origin, source="checkpoint")
    return found
