"""Programs: calls of kernels that are noted while they run, and run again in one call."""

from __future__ import annotations

import threading

import pytest
import torch

from quire.ops.native import find_native

extension = find_native()
if extension is None:
    pytest.skip("Quire was built without its native kernels", allow_module_level=True)


def test_calls_are_noted_between_record_and_recorded_and_made_again_in_order() -> None:
    x = torch.full((8,), 3.0)
    extension.scale(0, x.data_ptr(), 8, 2.0)
    extension.record()
    extension.scale(0, x.data_ptr(), 8, 0.5)
    extension.cap(x.data_ptr(), 8, 1.0)
    program = extension.recorded()
    extension.scale(0, x.data_ptr(), 8, 100.0)
    assert extension.program_size(program)[0] == 2
    x.fill_(4.0)
    extension.run_program(program, 1)
    assert torch.allclose(x, torch.tensor(2.0).tanh())


def test_the_call_that_fails_ends_the_program_with_the_exception_it_would_raise() -> None:
    table, ids, out = torch.arange(6.0).view(3, 2), torch.tensor([2]), torch.zeros(1, 2)
    x = torch.ones(4)
    extension.record()
    extension.take_rows(table.data_ptr(), 3, 8, ids.data_ptr(), 1, out.data_ptr())
    extension.scale(0, x.data_ptr(), 4, 2.0)
    program = extension.recorded()
    assert (out.tolist(), x.tolist()) == ([[4.0, 5.0]], [2.0] * 4)
    ids[0] = 3
    with pytest.raises(IndexError, match="Row 3 was asked for; there are 3"):
        extension.run_program(program, 1)
    assert x.tolist() == [2.0] * 4
    ids[0] = 1
    extension.run_program(program, 1)
    assert (out.tolist(), x.tolist()) == ([[2.0, 3.0]], [4.0] * 4)


def test_a_call_that_fails_while_it_is_recorded_is_not_noted() -> None:
    table, ids, out = torch.arange(6.0).view(3, 2), torch.tensor([7]), torch.zeros(1, 2)
    extension.record()
    with pytest.raises(IndexError):
        extension.take_rows(table.data_ptr(), 3, 8, ids.data_ptr(), 1, out.data_ptr())
    assert extension.program_size(extension.recorded())[0] == 0


def test_a_thread_records_one_program_at_a_time_and_its_own_calls_alone() -> None:
    x = torch.ones(4)
    with pytest.raises(RuntimeError, match="records no program"):
        extension.recorded()
    extension.record()
    with pytest.raises(RuntimeError, match="records a program already"):
        extension.record()
    other = threading.Thread(target=lambda: extension.scale(0, x.data_ptr(), 4, 2.0))
    other.start()
    other.join()
    assert extension.program_size(extension.recorded())[0] == 0


def test_what_is_no_program_is_refused() -> None:
    with pytest.raises(ValueError):
        extension.run_program(object(), 1)
    with pytest.raises(ValueError):
        extension.program_size(object())


def test_a_program_needs_its_number_of_threads() -> None:
    extension.record()
    program = extension.recorded()
    with pytest.raises(TypeError):
        extension.run_program(program)
