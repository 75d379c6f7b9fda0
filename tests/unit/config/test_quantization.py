from __future__ import annotations

import pytest
import torch

from quire.config.decided import LinearBackend
from quire.config.quantization import Form
from quire.errors import ConfigError
from quire.ops.op import bind_quantized
from quire.ops.quantized import QuantizedGemm
from quire.ops.rounding import nearest_codes

FORMS = [Form(8), Form(8, int8_inputs=True), Form(4, 128, zero_points=True), Form(4, 128), Form(4, 32)]
SHAPES = [(32, 128), (1, 1), (33, 130), (96, 200), (64, 31), (2048, 192)]


def gemm(backend: LinearBackend) -> QuantizedGemm:
    try:
        return bind_quantized(backend)
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_bytes_are_those_of_the_packed_weight(form: Form, shape: tuple[int, int]) -> None:
    packed = gemm("native").pack(nearest_codes(torch.ones(shape), form), form)
    assert packed.num_bytes == form.num_bytes(*shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_reference_takes_no_more(form: Form, shape: tuple[int, int]) -> None:
    packed = gemm("torch").pack(nearest_codes(torch.ones(shape), form), form)
    assert packed.num_bytes <= form.num_bytes(*shape)


def test_groups_are_counted_up_to_the_last_short_one() -> None:
    assert [Form(4, 128).num_groups(depth) for depth in (1, 128, 129, 256)] == [1, 1, 2, 2]
    assert Form(8).num_groups(4096) == 1
