from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from quire.ops.quantized import Form, Packed, TorchQuantizedGemm
from quire.ops.rounding import nearest_codes
from quire.worker.packed_file import DamagedFile, PackedWriter, read_packed

FORMS = {"a.weight": Form(8), "b.weight": Form(4, 32, zero_points=True), "c.weight": Form(4, 32, int8_inputs=True)}


def packed(form: Form) -> Packed:
    weight = torch.randn(7, 100, generator=torch.Generator().manual_seed(2))
    return TorchQuantizedGemm().pack(nearest_codes(weight, form), form)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    writer = PackedWriter(path, "key")
    for name, form in FORMS.items():
        writer.add(name, packed(form))
    assert not path.exists(), "a file has its name when it is whole"
    assert writer.finish() == path.stat().st_size
    return path


def test_weights_come_back_as_they_were(file: Path) -> None:
    found = read_packed(file, "key")
    assert list(found) == list(FORMS)
    for name, form in FORMS.items():
        expected = packed(form)
        assert (found[name].columns, found[name].depth, found[name].form) == (7, 100, form)
        assert all(map(torch.equal, found[name].tensors, expected.tensors))
        assert all(tensor.data_ptr() % 64 == 0 for tensor in found[name].tensors)


def test_a_file_may_go_while_its_weights_are_used(file: Path) -> None:
    found = read_packed(file, "key")
    file.write_bytes(b"")
    assert torch.equal(found["a.weight"].tensors[0], packed(Form(8)).tensors[0])


def _without_its_end(octets: bytearray) -> None:
    del octets[-1:]


def _with_more(octets: bytearray) -> None:
    octets += b"\0"


def _empty(octets: bytearray) -> None:
    del octets[:]


def _never_finished(octets: bytearray) -> None:
    octets[:64] = bytes(64)


def _with_a_flipped_bit(octets: bytearray) -> None:
    octets[100] ^= 4


def _with_a_lost_page(octets: bytearray) -> None:
    octets[64:500] = bytes(436)


def _with_another_index(octets: bytearray) -> None:
    octets[-3] ^= 1


def _foreign(octets: bytearray) -> None:
    octets[:8] = b"safetens"


@pytest.mark.parametrize(
    "damage",
    [
        _without_its_end,
        _with_more,
        _empty,
        _never_finished,
        _with_a_flipped_bit,
        _with_a_lost_page,
        _with_another_index,
        _foreign,
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_refused(file: Path, damage: Callable[[bytearray], None]) -> None:
    octets = bytearray(file.read_bytes())
    damage(octets)
    file.write_bytes(octets)
    with pytest.raises(DamagedFile):
        read_packed(file, "key")


def test_a_file_of_other_weights_is_refused(file: Path) -> None:
    with pytest.raises(DamagedFile, match="other weights"):
        read_packed(file, "another")


def test_nothing_is_left_of_a_file_that_is_given_up(tmp_path: Path) -> None:
    writer = PackedWriter(tmp_path / "weights", "key")
    writer.add("a", packed(Form(8)))
    writer.discard()
    writer.discard()
    assert list(tmp_path.iterdir()) == []
