"""OpenVINO GenAI in the race, through its ``ContinuousBatchingPipeline``.

Not here: the protocol (protocol.py), its environment and the export of the checkpoint (setup.sh).
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.peers.protocol import Arguments, arguments, own_stdout, serve


class OpenVINO:
    """The pipeline with split-fuse scheduling. KV stays in the type that it chooses by itself (8 bits on a CPU)."""

    def __init__(self, args: Arguments) -> None:
        import numpy
        import openvino  # type: ignore[import-not-found, unused-ignore]  # these two: the peer's environment
        import openvino_genai as genai  # type: ignore[import-not-found, unused-ignore]

        self._numpy, self._openvino, self._genai = numpy, openvino, genai
        self.version = str(genai.__version__)
        plan = genai.SchedulerConfig()
        plan.dynamic_split_fuse = True
        plan.enable_prefix_caching = False
        plan.max_num_seqs = args.max_num_seqs
        plan.cache_size = 3
        properties = {"INFERENCE_NUM_THREADS": args.num_threads, "INFERENCE_PRECISION_HINT": "bf16"}
        self.settings: dict[str, object] = {
            "form": args.form,
            "max_num_batched_tokens": plan.max_num_batched_tokens,
            "cache_size_gb": plan.cache_size,
            **properties,
        }
        self._pipe = genai.ContinuousBatchingPipeline(args.model, plan, "CPU", properties)

    def prepare(self, prompts: Sequence[Sequence[int]], output_len: int) -> None:
        """Nothing: its memory was laid out at the start."""

    def generate(self, prompts: Sequence[Sequence[int]], output_len: int) -> Sequence[Sequence[int]]:
        """See Contender."""
        config = self._genai.GenerationConfig()
        config.max_new_tokens = output_len
        config.ignore_eos = True
        config.do_sample = False
        asked = [self._openvino.Tensor(self._numpy.array([ids], dtype=self._numpy.int64)) for ids in prompts]
        found = self._pipe.generate(asked, [config] * len(asked))
        return [one.m_generation_ids[0] for one in found]


if __name__ == "__main__":
    answers = own_stdout()
    serve(OpenVINO(arguments()), answers)
