"""llama.cpp in the race, through the C interface that llama-cpp-python carries.

Each job gets a context of its own size, made before the clock runs: with a KV cache for each sequence
(``kv_unified`` off, the faster setting for many sequences) a context's room is divided evenly among its sequences.

Not here: the protocol (protocol.py), its environment and the GGUF files (setup.sh, write_gguf.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.peers.protocol import Arguments, arguments, own_stdout, serve

_MAX_BATCH_TOKENS = 2048
_ROOM_STEP = 256  # a context's room for a sequence is a multiple of this


class LlamaCpp:
    """A model, a context for the job at hand, and a batch that is filled again for each step."""

    def __init__(self, args: Arguments) -> None:
        import llama_cpp  # type: ignore[import-not-found, unused-ignore]  # the peer's environment
        import numpy

        self._api, self._numpy = llama_cpp, numpy
        self._num_threads = args.num_threads
        self.version = str(llama_cpp.__version__)
        self.settings: dict[str, object] = {"form": args.form, "n_batch": _MAX_BATCH_TOKENS, "kv_unified": False}
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(args.model.encode(), model_params)
        if not self._model:
            raise RuntimeError("llama.cpp could not load the model; the lines above say why.")
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._batch = llama_cpp.llama_batch_init(_MAX_BATCH_TOKENS, 0, 1)
        self._context: object = None
        self._shape = (0, 0)

    def prepare(self, prompts: Sequence[Sequence[int]], output_len: int) -> None:
        """A context for so many sequences of such a length; the same one again if the last job had the same."""
        room = -(-(max(map(len, prompts)) + output_len) // _ROOM_STEP) * _ROOM_STEP
        if self._shape == (len(prompts), room):
            self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)
            return
        if self._context:
            self._api.llama_free(self._context)
        params = self._api.llama_context_default_params()
        params.n_ctx = room * len(prompts)
        params.n_seq_max = len(prompts)
        params.n_batch = _MAX_BATCH_TOKENS
        params.n_threads = params.n_threads_batch = self._num_threads
        params.kv_unified = False
        self._context = self._api.llama_init_from_model(self._model, params)
        if not self._context:
            raise RuntimeError(f"llama.cpp could not make a context for {len(prompts)} sequences of {room} tokens.")
        self._shape = (len(prompts), room)

    def generate(self, prompts: Sequence[Sequence[int]], output_len: int) -> Sequence[Sequence[int]]:
        """See Contender. Whole prompts first, as many tokens a call as fit, then one token of every sequence a call."""
        outputs: list[list[int]] = [[] for _ in prompts]
        for part in _full_batches(prompts):
            for sequence, start, end in part:
                last = len(prompts[sequence]) - 1
                for place in range(start, end):
                    self._add(prompts[sequence][place], place, sequence, wants_logits=place == last)
            self._decode(outputs)
        for step in range(output_len - 1):
            for sequence, prompt in enumerate(prompts):
                self._add(outputs[sequence][-1], len(prompt) + step, sequence, wants_logits=True)
            self._decode(outputs)
        return outputs

    def _add(self, token: int, place: int, sequence: int, *, wants_logits: bool) -> None:
        batch, at = self._batch, self._batch.n_tokens
        batch.token[at] = token
        batch.pos[at] = place
        batch.n_seq_id[at] = 1
        batch.seq_id[at][0] = sequence
        batch.logits[at] = wants_logits
        batch.n_tokens = at + 1

    def _decode(self, outputs: list[list[int]]) -> None:
        """Compute the batch, add the likeliest token to each sequence whose logits were asked, and empty the batch."""
        status = self._api.llama_decode(self._context, self._batch)
        if status:
            raise RuntimeError(f"llama_decode failed with status {status} on {self._batch.n_tokens} tokens.")
        for at in range(self._batch.n_tokens):
            if self._batch.logits[at]:
                logits = self._api.llama_get_logits_ith(self._context, at)
                row = self._numpy.ctypeslib.as_array(logits, shape=(self._vocab_size,))
                outputs[self._batch.seq_id[at][0]].append(int(row.argmax()))
        self._batch.n_tokens = 0


def _full_batches(prompts: Sequence[Sequence[int]]) -> Iterator[list[tuple[int, int, int]]]:
    """Calls of at most ``_MAX_BATCH_TOKENS`` tokens that cover all prompts: (sequence, first token, end)."""
    part: list[tuple[int, int, int]] = []
    free = _MAX_BATCH_TOKENS
    for sequence, prompt in enumerate(prompts):
        start = 0
        while start < len(prompt):
            end = min(len(prompt), start + free)
            part.append((sequence, start, end))
            free -= end - start
            start = end
            if not free:
                yield part
                part, free = [], _MAX_BATCH_TOKENS
    if part:
        yield part


if __name__ == "__main__":
    answers = own_stdout()
    serve(LlamaCpp(arguments()), answers)
