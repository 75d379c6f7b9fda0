"""Examine a Folio checkpoint: `python -m training.folio.evaluate` asks held-out questions greedily and counts.

Exit status 1 below 95 % right. `--with-transformers` asks through the reference implementation instead of Quire.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer

from quire.bundled import folio_path
from training.folio.documents import Message
from training.folio.exam import Exercise, exam, perplexity_text
from training.folio.tools import Tool
from training.folio.train import encode_document

PASS = 0.95
LONG_ANSWER, SHORT_ANSWER = 640, 96


class Respondent(Protocol):
    """Whoever answers the exam."""

    def answer(self, chats: Sequence[Sequence[Message]], tools: Sequence[Tool], max_tokens: int) -> list[str]:
        """Answer each conversation greedily."""

    def surprise(self, texts: Sequence[list[int]]) -> list[list[float]]:
        """Return the negative log probability of each token of each text, from the second on."""


class QuireRespondent:
    """Asks through Quire's public API."""

    def __init__(self, model: Path, dtype: str, quantization: str | None) -> None:
        from quire import LLM

        options = {"quantization": quantization} if quantization else {}
        self.llm = LLM(model=str(model), dtype=dtype, **options)

    def answer(self, chats: Sequence[Sequence[Message]], tools: Sequence[Tool], max_tokens: int) -> list[str]:
        from quire import SamplingParams

        conversations = [[{"role": message.role, "content": message.content} for message in chat] for chat in chats]
        params = SamplingParams(temperature=0, max_tokens=max_tokens)
        schemas = [tool.schema() for tool in tools] or None
        outputs = self.llm.chat(conversations, params, tools=schemas, use_tqdm=False)
        return [output.outputs[0].text for output in outputs]

    def surprise(self, texts: Sequence[list[int]]) -> list[list[float]]:
        from quire import SamplingParams

        params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
        prompts = [{"prompt_token_ids": ids} for ids in texts]
        results = []
        for ids, output in zip(texts, self.llm.generate(prompts, params, use_tqdm=False), strict=True):
            chances = (output.prompt_logprobs or [])[1:]
            results.append([-at[token].logprob for token, at in zip(ids[1:], chances, strict=True) if at])
        return results


class ReferenceRespondent:
    """Asks through transformers, for checks without Quire; batches are padded on the left."""

    def __init__(self, model: Path, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(threads)
        self.tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        self.model.generation_config.update(temperature=None, top_p=None)  # type: ignore[no-untyped-call]

    def answer(self, chats: Sequence[Sequence[Message]], tools: Sequence[Tool], max_tokens: int) -> list[str]:
        import torch

        schemas = [tool.schema() for tool in tools] or None
        prompts = []
        for chat in chats:
            messages = [{"role": message.role, "content": message.content} for message in chat]
            text = self.tokenizer.apply_chat_template(
                messages,
                tools=schemas,  # type: ignore[arg-type]
                tokenize=False,
                add_generation_prompt=True,
            )
            prompts.append(text)
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        answers = [""] * len(prompts)
        for start in range(0, len(order), 64):
            places = order[start : start + 64]
            batch = self.tokenizer([prompts[place] for place in places], return_tensors="pt", padding=True)
            batch.pop("token_type_ids", None)
            with torch.inference_mode():
                ids = self.model.generate(**batch, max_new_tokens=max_tokens, do_sample=False)  # type: ignore[misc]
            texts = self.tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
            for place, text in zip(places, texts, strict=True):
                answers[place] = text
        return answers

    def surprise(self, texts: Sequence[list[int]]) -> list[list[float]]:
        import torch

        results: list[list[float]] = []
        for ids in texts:
            with torch.inference_mode():
                scores = self.model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
            results.append((-scores.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]).tolist())
        return results


def mark(respondent: Respondent, exercises: Sequence[Exercise]) -> list[tuple[Exercise, str]]:
    """Ask all exercises, those with the same tools and length together, and return each with its answer."""
    groups: dict[tuple[tuple[str, ...], int], list[Exercise]] = defaultdict(list)
    for drawn in exercises:
        length = LONG_ANSWER if drawn.turn.domain == "sequence" else SHORT_ANSWER
        groups[tuple(tool.name for tool in drawn.tools), length].append(drawn)
    marked: list[tuple[Exercise, str]] = []
    for (_, length), group in groups.items():
        answers = respondent.answer([drawn.messages for drawn in group], group[0].tools, length)
        marked += zip(group, answers, strict=True)
    return marked


def perplexity(respondent: Respondent, tokenizer: Tokenizer) -> tuple[float, int]:
    """Return the perplexity of the answers in the fixed text, and over how many tokens it was taken."""
    documents = [encode_document(tokenizer, pieces) for pieces in perplexity_text()]
    total, count = 0.0, 0
    for (_, trained), nats in zip(documents, respondent.surprise([ids for ids, _ in documents]), strict=True):
        chosen = [value for value, mine in zip(nats, trained[1:], strict=True) if mine]
        total, count = total + sum(chosen), count + len(chosen)
    return math.exp(total / count), count


def main() -> int:
    """Examine, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description="Ask Folio held-out questions and count the right answers.")
    parser.add_argument("--model", type=Path, default=folio_path())
    parser.add_argument("--questions", type=int, default=100, help="questions a domain")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--quantization", help="quantization method of Quire, to see what it costs")
    parser.add_argument("--with-transformers", action="store_true", help="ask through transformers (development only)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--show", type=int, default=0, help="print this many wrong answers a domain")
    options = parser.parse_args()
    respondent: Respondent
    if options.with_transformers:
        respondent = ReferenceRespondent(options.model, options.threads)
    else:
        respondent = QuireRespondent(options.model, options.dtype, options.quantization)
    right: dict[str, list[bool]] = defaultdict(list)
    for drawn, text in mark(respondent, exam(options.seed, options.questions)):
        fine = drawn.turn.accepts(text)
        right[drawn.turn.domain].append(fine)
        if not fine and right[drawn.turn.domain].count(False) <= options.show:
            print(f"  {drawn.turn.domain}: {drawn.turn.user!r} -> {text!r}, not {drawn.turn.answer!r}")
    print("| domain | right | of | share |\n|---|---|---|---|")
    for domain, marks in right.items():
        print(f"| {domain} | {sum(marks)} | {len(marks)} | {sum(marks) / len(marks):.1%} |")
    every = [fine for marks in right.values() for fine in marks]
    share = sum(every) / len(every)
    print(f"| total | {sum(every)} | {len(every)} | {share:.1%} |")
    value, count = perplexity(respondent, Tokenizer.from_file(str(options.model / "tokenizer.json")))
    print(f"perplexity of the answers in the fixed text: {value:.4f} over {count} tokens")
    return 0 if share >= PASS else 1


if __name__ == "__main__":
    sys.exit(main())
