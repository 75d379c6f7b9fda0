"""Folio's tokenizer: how it is trained, and the files that describe it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.folio.documents import END_OF_TEXT, IM_END, IM_START, TOOL_RULE, document
from training.folio.words import ANIMALS, COLOURS, NAMES, WORDS

VOCABULARY = 2048
SPECIAL = (END_OF_TEXT, IM_START, IM_END)
SPLIT = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+"

CHAT_TEMPLATE = (
    "{%- set system = namespace(text='') -%}"
    "{%- set rest = messages -%}"
    "{%- if messages and messages[0].role == 'system' -%}"
    "{%- set system.text = messages[0].content -%}{%- set rest = messages[1:] -%}{%- endif -%}"
    "{%- if tools -%}"
    "{%- if system.text -%}{%- set system.text = system.text + '\\n\\n' -%}{%- endif -%}"
    "{%- set system.text = system.text + '# Tools\\n<tools>\\n' -%}"
    "{%- for tool in tools -%}"
    "{%- set entry = tool.function if tool.function is defined else tool -%}"
    "{%- set system.text = system.text + '{\"name\": ' + (entry.name | tojson) -%}"
    "{%- set system.text = system.text + ', \"description\": ' + ((entry.description or '') | tojson) -%}"
    "{%- set system.text = system.text + ', \"parameters\": ' + ((entry.parameters or {}) | tojson) + '}\\n' -%}"
    "{%- endfor -%}"
    "{%- set system.text = system.text + '</tools>\\n' + RULE -%}"
    "{%- endif -%}"
    "{%- if system.text -%}{{ '<|im_start|>system\\n' + system.text + '<|im_end|>\\n' }}{%- endif -%}"
    "{%- for message in rest -%}"
    "{{ '<|im_start|>' + message.role + '\\n' + (message.content or '') }}"
    "{%- for call in (message.tool_calls or []) -%}"
    "{%- set entry = call.function if call.function is defined else call -%}"
    "{%- if message.content or not loop.first -%}{{ '\\n' }}{%- endif -%}"
    "{{ '<tool_call>\\n{\"name\": ' + (entry.name | tojson) + ', \"arguments\": ' }}"
    "{{ entry.arguments if entry.arguments is string else (entry.arguments | tojson) }}{{ '}\\n</tool_call>' }}"
    "{%- endfor -%}"
    "{{ '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
).replace("RULE", "'" + TOOL_RULE.replace("\n", "\\n") + "'")


def train_tokenizer(seed: int, documents: int = 20000) -> Tokenizer:
    """Train the byte-level BPE on documents drawn with `seed`; digits stand alone and nothing is added to a text."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytewise])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, documents), trainer)
    return tokenizer


def _texts(seed: int, documents: int) -> Iterator[str]:
    rng = Random(seed)
    for _ in range(documents):
        text = "".join(piece.text for piece in document(rng))
        for mark in SPECIAL:
            text = text.replace(mark, "\n")
        yield text
    for word in (*WORDS, *NAMES, *ANIMALS, *COLOURS):  # JSON and answers use them without a space before
        yield from [f'"{word}"'] * 60


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json with the chat template."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "bos_token": None,
        "eos_token": IM_END,
        "pad_token": END_OF_TEXT,
        "model_max_length": 2048,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
