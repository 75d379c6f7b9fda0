"""The reference of products with packed weights, and which implementation is bound."""

from __future__ import annotations

import pytest
import torch

from quire.errors import ConfigError
from quire.ops import native as native_module
from quire.ops.gemm import TorchGemm
from quire.ops.op import bind_gemm


def test_the_reference_keeps_the_weight_as_it_came() -> None:
    weight, gemm = torch.randn(5, 3), TorchGemm()
    assert gemm.pack(weight) is weight


def test_the_reference_multiplies_and_reads_rows() -> None:
    weight, x, bias, gemm = torch.randn(5, 3), torch.randn(2, 4, 3), torch.randn(5), TorchGemm()
    assert torch.allclose(gemm.multiply(x, weight, 5, bias), x @ weight.T + bias, atol=1e-6)
    assert gemm.multiply(x.bfloat16(), weight.bfloat16(), 5, dtype=torch.float32).dtype == torch.float32
    assert torch.equal(gemm.rows(torch.tensor([4, 0]), weight, 5, 3), weight[[4, 0]])


def test_torch_is_bound_by_its_name() -> None:
    assert isinstance(bind_gemm("torch"), TorchGemm)


def test_native_kernels_that_were_not_built_are_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_module, "find_native", lambda: None)
    with pytest.raises(ConfigError, match="--linear-backend torch"):
        bind_gemm("native")
