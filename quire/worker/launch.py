"""How the forward pass is started: eagerly, one call of the model a step, or as a recorded program.

Not here: what is computed (models/), the tensors it needs (inputs.py), what a program is (program.py).
Door: Model, EagerLauncher, RecordedLauncher, launcher_for.
"""

# Shapes: N tokens of the step whose hidden states are wanted (all where nobody says which), M model size, V vocabulary.

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Protocol

import torch
from torch import Tensor

from quire.config.card import Card
from quire.config.decided import WorkerConfig
from quire.layers.batch import Batch
from quire.ops.native import native
from quire.worker.program import Program, Unrecordable, placed, record
from quire.worker.program_memory import Arena, NoPlace

MAX_PROGRAM_BYTES = 16 * 2**20
"""Of the calls of all programs; some 40 KB are one of a model with 28 layers."""
MIN_PLACED_TOKENS = 512
"""Of a step that runs eagerly in the arena. The system gives and clears pages for tensors of many megabytes whenever
they are made, which costs a step of 4,096 tokens 5 %; placing them costs some milliseconds (docs/log.md)."""
SPARE_BYTES = 2**20
"""Of address space, for tables of angles, schedules and the like."""
MAX_ROWS = 256
"""Of a recorded step: with more, Python's share of it is nothing."""

logger = logging.getLogger(__name__)


class Model(Protocol):
    """What a runner needs of a model."""

    def __call__(self, batch: Batch) -> Tensor:
        """Hidden states [N, M] of the batch's wanted tokens; the KV of all of them is in place afterwards."""
        ...

    def head(self, hidden_NM: Tensor) -> Tensor:
        """Logits [N, V], float32."""
        ...


class EagerLauncher:
    """Calls the model directly."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def forward(self, batch: Batch) -> Tensor:
        """Hidden states [N, M]."""
        return self._model(batch)

    def head(self, hidden_NM: Tensor) -> Tensor:
        """Logits [N, V], float32."""
        return self._model.head(hidden_NM)


class RecordedLauncher:
    """Records a step of decode, one token a row, when it meets a number of rows for the first time, and runs that
    program from then on. All other steps run eagerly, long ones in the same memory.

    A program's calls know addresses: of weights, of KV, of the batch's tensors. It is run for a batch whose tensors lie
    where those of the recorded one lay, with the same instructions and at most as many threads; otherwise it is
    recorded anew.

    What it returns is good until the next step.
    """

    def __init__(self, model: Model, arena: Arena, max_rows: int) -> None:
        self._model = model
        self._arena = arena
        self._max_rows = max_rows
        self._programs: OrderedDict[int, Program] = OrderedDict()
        """By number of rows, the one that was used last at the end."""
        self._circumstances: tuple[object, ...] = ()
        self._places = arena.places()
        """What the step leaves of the arena."""
        self._last: tuple[Tensor, ...] = ()
        """Hidden states and logits of a step that was a program."""

    @property
    def num_programs(self) -> int:
        return len(self._programs)

    @property
    def num_bytes(self) -> int:
        """Memory of all programs and of what they compute."""
        return self._arena.used_bytes + sum(program.num_bytes for program in self._programs.values())

    def forward(self, batch: Batch) -> Tensor:
        """Hidden states [N, M] of the tokens that are wanted.

        Raises: what a kernel raises.
        """
        num_rows, num_tokens = batch.rows.num_rows, batch.rows.starts[-1]
        self._last = ()
        # Hidden states of a program are all rows'; a step that wants some of them has others.
        if num_tokens == num_rows <= self._max_rows and batch.wanted_N is None:
            program = self._program(batch)
            if program is not None:
                return program.results[0]
        self._places = self._arena.places()
        if num_tokens < MIN_PLACED_TOKENS:
            return self._model(batch)
        return placed(self._model, batch, self._places)

    def head(self, hidden_NM: Tensor) -> Tensor:
        """Logits [N, V], float32."""
        if self._last and hidden_NM is self._last[0]:
            return self._last[1]
        return placed(self._model.head, hidden_NM, self._places)

    def _compute(self, batch: Batch) -> tuple[Tensor, ...]:
        hidden_TM = self._model(batch)
        return hidden_TM, self._model.head(hidden_TM)

    def _program(self, batch: Batch) -> Program | None:
        """The program of a batch, which has been run; None where there can be none."""
        self._forget_what_changed()
        num_rows = batch.rows.num_rows
        program = self._programs.get(num_rows)
        if program is not None and batch.lies_like(program.held):
            self._programs.move_to_end(num_rows)
            program.run()
        else:
            program = self._record(batch)
        if program is not None:
            self._last, self._places = program.results, program.places
        return program

    def _record(self, batch: Batch) -> Program | None:
        num_rows = batch.rows.num_rows
        self._programs.pop(num_rows, None)
        try:
            program = record(self._compute, batch, self._arena.places())
        except Unrecordable as reason:
            logger.info("Steps of decode run without recorded programs: %s.", reason)
            self._max_rows = 0
            return None
        except NoPlace as reason:
            logger.info("Steps of decode with %d rows or more run without recorded programs: %s", num_rows, reason)
            self._max_rows = num_rows - 1
            return None
        self._programs[num_rows] = program
        while sum(one.num_bytes for one in self._programs.values()) > MAX_PROGRAM_BYTES and len(self._programs) > 1:
            self._programs.popitem(last=False)
        return program

    def _forget_what_changed(self) -> None:
        circumstances = (torch.get_num_threads(), native().isa())
        if circumstances != self._circumstances:
            self._programs.clear()
            self._circumstances = circumstances


def launcher_for(model: Model, config: WorkerConfig, card: Card) -> EagerLauncher | RecordedLauncher:
    """A launcher that records, where there is something to record: kernels of ours, and nobody forbids it."""
    if config.enforce_eager or config.linear_backend != "native":
        return EagerLauncher(model)
    max_rows = min(config.max_num_seqs, MAX_ROWS)
    return RecordedLauncher(model, Arena(_reserved_bytes(config, card, max_rows)), max_rows)


def _reserved_bytes(config: WorkerConfig, card: Card, max_rows: int) -> int:
    """Address space that the longest step surely has room in: what a layer computes, the stream, the logits."""
    dtype: torch.dtype = getattr(torch, config.dtype)
    heads = (card.num_heads + 2 * card.num_kv_heads) * card.head_size
    numbers = 2 * heads + 4 * card.intermediate_size + 8 * card.hidden_size
    num_tokens = max(config.max_num_batched_tokens, max_rows)
    logits = config.max_num_seqs * card.vocab_size * torch.float32.itemsize
    return SPARE_BYTES + num_tokens * numbers * dtype.itemsize + logits
