"""Hugging Face's transformers in the race: ``generate`` for one request after the other.

Not here: the protocol (protocol.py), its environment (setup.sh).
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.peers.protocol import Arguments, arguments, own_stdout, serve


class Transformers:
    """The reference implementation with its own defaults, in bf16, as people use it first: without a batch."""

    def __init__(self, args: Arguments) -> None:
        import torch
        import transformers

        torch.set_num_threads(args.num_threads)
        self._torch = torch
        self.version = str(transformers.__version__)
        self.settings: dict[str, object] = {"form": args.form, "batch_size": 1}
        self._model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.bfloat16)

    def prepare(self, prompts: Sequence[Sequence[int]], output_len: int) -> None:
        """Nothing: its memory grows as it goes."""

    def generate(self, prompts: Sequence[Sequence[int]], output_len: int) -> Sequence[Sequence[int]]:
        """See Contender."""
        return [self._continue(ids, output_len) for ids in prompts]

    def _continue(self, ids: Sequence[int], output_len: int) -> Sequence[int]:
        asked = self._torch.tensor([list(ids)])
        found = self._model.generate(  # type: ignore[misc, unused-ignore]  # its own stubs disagree with themselves
            asked,
            attention_mask=self._torch.ones_like(asked),
            do_sample=False,
            min_new_tokens=output_len,
            max_new_tokens=output_len,
        )
        continued: list[int] = found[0, len(ids) :].tolist()
        return continued


if __name__ == "__main__":
    answers = own_stdout()
    serve(Transformers(arguments()), answers)
