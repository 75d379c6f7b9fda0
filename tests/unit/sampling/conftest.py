from __future__ import annotations

import pytest

from quire.ops.native import find_native
from tests.unit.sampling import drawing


@pytest.fixture(params=["torch", "native"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Samplers of this test compute by torch, then by the kernels."""
    if request.param == "native" and find_native() is None:
        pytest.skip("Quire was installed without its native kernels")
    monkeypatch.setattr(drawing, "backend", request.param)
    return str(request.param)
