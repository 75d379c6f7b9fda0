"""Train Folio: `python -m training.folio.train --minutes 60`; see README.md for the recipe and what it gave.

The batches of step n depend only on the seed and n, so a resumed run sees what an unbroken one would have seen.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from training.folio.documents import END_OF_TEXT, IM_END, Piece, document
from training.folio.model import Folio, Shape
from training.folio.tokens import train_tokenizer, write_tokenizer

# A batch is one kind of row: (length, share of the steps).
ROWS = ((256, 0.72), (512, 0.18), (1024, 0.07), (2048, 0.03))


def encode_document(tokenizer: Tokenizer, pieces: list[Piece]) -> tuple[list[int], list[bool]]:
    """Return the ids of a document with its end mark, and for each id whether it is trained."""
    ids: list[int] = []
    trained: list[bool] = []
    for piece, encoding in zip(pieces, tokenizer.encode_batch([piece.text for piece in pieces]), strict=True):
        ids += encoding.ids
        trained += [piece.trained] * len(encoding.ids)
    chat = not pieces[-1].trained
    return [*ids, special_id(tokenizer, END_OF_TEXT)], [*trained, not chat]


def special_id(tokenizer: Tokenizer, mark: str) -> int:
    """Return the id of a special token."""
    found = tokenizer.token_to_id(mark)
    if found is None:
        raise SystemExit(f"the tokenizer has no token {mark}: it is not one of Folio's")
    return found


def make_batch(tokenizer: Tokenizer, seed: int, step: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Pack the documents of one step: ids [rows, length + 1] and labels alike, -100 where nothing is trained."""
    rng = Random(f"{seed} {step}")
    length = rng.choices([row for row, _ in ROWS], [share for _, share in ROWS])[0]
    ids: list[list[int]] = []
    labels: list[list[int]] = []
    for _ in range(max(1, tokens // length)):
        row: list[int] = []
        marks: list[bool] = []
        while len(row) < length + 1:
            more, trained = encode_document(tokenizer, document(rng))
            row += more
            marks += trained
        row, marks = row[: length + 1], marks[: length + 1]
        ids.append(row)
        labels.append([token if mark else -100 for token, mark in zip(row, marks, strict=True)])
    return torch.tensor(ids), torch.tensor(labels)


def rate(progress: float, step: int, warm_up: int = 60, decay_from: float = 0.45) -> float:
    """Scale of the learning rate: warm-up by steps, level, then a linear fall to 2 % at the end."""
    level = min(1.0, (step + 1) / warm_up)
    if progress > decay_from:
        level *= max(0.02, (1.0 - progress) / (1.0 - decay_from))
    return level


class Trainer:
    """The network, its two optimizers and the clock; saves and restores itself without pickle."""

    def __init__(self, options: argparse.Namespace, tokenizer: Tokenizer) -> None:
        torch.manual_seed(options.seed)
        self.options, self.tokenizer = options, tokenizer
        self.device = torch.device(options.device)
        self.model = Folio(Shape(vocabulary=tokenizer.get_vocab_size())).to(self.device)
        matrices = [p for n, p in self.model.named_parameters() if p.dim() == 2 and n.startswith("layers.")]
        others = [p for n, p in self.model.named_parameters() if not (p.dim() == 2 and n.startswith("layers."))]
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "muon": torch.optim.Muon(matrices, lr=options.matrix_rate, weight_decay=0.01, momentum=0.95, ns_steps=4),
            "adamw": torch.optim.AdamW(others, lr=options.rate, betas=(0.9, 0.95), weight_decay=0.0),
        }
        self.peaks = {"muon": options.matrix_rate, "adamw": options.rate}
        self.body: Callable[[Tensor], Tensor] = torch.compile(self.model) if options.compile else self.model
        self.step, self.seconds, self.seen, self.learnt = 0, 0.0, 0, 0

    def advance(self, progress: float) -> float:
        """Take one step at `progress` (0..1) of the schedule; return its loss."""
        ids, labels = make_batch(self.tokenizer, self.options.seed, self.step, self.options.batch_tokens)
        ids, labels = ids.to(self.device), labels.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            hidden = self.body(ids[:, :-1])
            targets = labels[:, 1:]
            wanted = targets != -100
            logits = self.model.logits(hidden[wanted])
        loss = F.cross_entropy(logits.float(), targets[wanted])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.peaks[name] * rate(progress, self.step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.seen += ids[:, 1:].numel()
        self.learnt += int(wanted.sum())
        return float(loss.detach())

    def save(self, folder: Path) -> None:
        """Write the state of the run, enough for `restore`."""
        tensors = {f"model/{name}": value.contiguous() for name, value in self.model.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            for index, slots in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{slot}": value.contiguous() for slot, value in slots.items()}
        counters = {"step": self.step, "seconds": self.seconds, "seen": self.seen, "learnt": self.learnt}
        save_file(tensors, folder / "state.new", metadata={"counters": json.dumps(counters)})
        (folder / "state.new").replace(folder / "state.safetensors")

    def restore(self, folder: Path) -> None:
        """Continue from what `save` wrote."""
        weights: dict[str, Tensor] = {}
        slots: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in self.optimizers}
        with safe_open(folder / "state.safetensors", framework="pt") as file:
            counters = json.loads(file.metadata()["counters"])
            for key in file.keys():  # noqa: SIM118 (safe_open is no mapping)
                owner, rest = key.split("/", 1)
                if owner == "model":
                    weights[rest] = file.get_tensor(key)
                else:
                    index, slot = rest.split("/")
                    slots[owner].setdefault(int(index), {})[slot] = file.get_tensor(key)
        self.model.load_state_dict(weights)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict({**optimizer.state_dict(), "state": slots[name]})
        self.step, self.seconds = counters["step"], counters["seconds"]
        self.seen, self.learnt = counters["seen"], counters["learnt"]

    def export(self, folder: Path) -> None:
        """Write a checkpoint that any engine for Llama loads: weights in bfloat16, configs, tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.model.exported(), folder / "model.new", metadata={"format": "pt"})
        (folder / "model.new").chmod(0o644)
        (folder / "model.new").replace(folder / "model.safetensors")
        end, stop = special_id(self.tokenizer, END_OF_TEXT), special_id(self.tokenizer, IM_END)
        config = self.model.shape.as_config([stop, end], end)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        generation = {"eos_token_id": [stop, end], "pad_token_id": end, "temperature": 0.2, "top_p": 0.9}
        (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
        write_tokenizer(self.tokenizer, folder)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train Folio from nothing but its grammar.")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=60.0, help="length of the run by the clock")
    length.add_argument("--steps", type=int, help="length of the run in steps, for a run that repeats exactly")
    parser.add_argument("--out", type=Path, default=Path("build/folio"), help="folder of the run's checkpoints")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--rate", type=float, default=2e-3, help="peak rate of AdamW (embedding and norms)")
    parser.add_argument("--matrix-rate", type=float, default=1.5e-2, help="peak rate of Muon (matrices)")
    parser.add_argument("--save-minutes", type=float, default=4.0)
    parser.add_argument("--compile", action="store_true", help="compile the network (worth it beyond some minutes)")
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Run the training and export the result."""
    options = parse_options()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.resume:
        trainer = Trainer(options, Tokenizer.from_file(str(options.out / "model" / "tokenizer.json")))
        trainer.restore(options.out)
    else:
        trainer = Trainer(options, train_tokenizer(options.seed))
    began, saved, total, shown = time.monotonic() - trainer.seconds, time.monotonic(), 0.0, trainer.step
    while True:
        trainer.seconds = time.monotonic() - began
        progress = trainer.step / options.steps if options.steps else trainer.seconds / (60 * options.minutes)
        if progress >= 1:
            break
        loss = trainer.advance(progress)
        if not math.isfinite(loss):
            raise SystemExit(f"the loss became {loss} at step {trainer.step}: lower --rate or --matrix-rate")
        total += loss
        if trainer.step % 50 == 0:
            speed = trainer.seen / max(1e-9, time.monotonic() - began)
            mean = total / (trainer.step - shown)
            print(f"step {trainer.step} loss {mean:.4f} {progress:.1%} {trainer.seen:,} tokens {speed:,.0f}/s")
            total, shown = 0.0, trainer.step
        if time.monotonic() - saved > 60 * options.save_minutes:
            trainer.save(options.out)
            trainer.export(options.out / "model")
            saved = time.monotonic()
    trainer.save(options.out)
    trainer.export(options.out / "model")
    counts = f"{trainer.step} steps, {trainer.seen:,} tokens ({trainer.learnt:,} trained)"
    print(f"done: {counts}, {trainer.seconds / 60:.1f} min")


if __name__ == "__main__":
    main()
