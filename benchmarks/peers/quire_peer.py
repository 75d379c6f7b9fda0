"""Quire in the race, through ``LLM``.

Not here: the protocol (protocol.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.peers.protocol import Arguments, arguments, own_stdout, serve

_OPTIONS: dict[str, dict[str, object]] = {
    "bf16": {},
    "int8": {"quantization": "int8"},
    "int4": {"quantization": "int4"},
    "w8a8": {"quantization": "w8a8"},
    "w4a8": {"quantization": "w4a8"},
}


class Quire:
    """``quire.LLM`` with its own defaults, but for prefix caching, which is off for everybody."""

    def __init__(self, args: Arguments) -> None:
        from quire import LLM, SamplingParams
        from quire.version import __version__

        self._params = SamplingParams
        self.version = __version__
        self.settings: dict[str, object] = {"form": args.form}
        self._llm = LLM(
            args.model,
            dtype="bfloat16",
            skip_tokenizer_init=True,
            enable_prefix_caching=False,
            max_model_len=args.max_model_len,
            max_num_seqs=args.max_num_seqs,
            num_threads=args.num_threads,
            **_OPTIONS[args.form],
        )

    def prepare(self, prompts: Sequence[Sequence[int]], output_len: int) -> None:
        """Nothing: its memory was laid out at the start."""

    def generate(self, prompts: Sequence[Sequence[int]], output_len: int) -> Sequence[Sequence[int]]:
        """See Contender."""
        params = self._params(temperature=0.0, max_tokens=output_len, ignore_eos=True, detokenize=False)
        asked = [{"prompt_token_ids": list(ids)} for ids in prompts]
        return [one.outputs[0].token_ids for one in self._llm.generate(asked, params, use_tqdm=False)]


if __name__ == "__main__":
    answers = own_stdout()
    serve(Quire(arguments()), answers)
