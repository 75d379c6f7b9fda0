"""The extension module: instructions by name, and what it needs of the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from quire.errors import ConfigError
from quire.ops.native import find_native

extension = find_native()
if extension is None:
    pytest.skip("Quire was built without its native kernels", allow_module_level=True)


def test_the_instructions_in_use_are_lowered_and_raised_by_name() -> None:
    best = extension.best_isa()
    extension.use_isa("portable")
    assert extension.isa() == "portable"
    extension.use_isa(best)
    assert extension.isa() == best


def test_unknown_instructions_are_an_error_that_names_those_there_are() -> None:
    for name in ("sse9", "", "AVX2"):
        with pytest.raises(ValueError, match="portable, avx2, avx512, avx512bf16, neon, neonbf16"):
            extension.use_isa(name)
    with pytest.raises(TypeError):
        extension.use_isa(2)


def test_the_instructions_of_another_kind_of_processor_are_known_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    best = extension.best_isa()
    is_arm = platform.machine() in ("aarch64", "arm64")
    assert best.startswith("neon") == is_arm
    for name in ("avx2", "avx512", "avx512bf16") if is_arm else ("neon", "neonbf16"):
        with pytest.raises(ValueError, match=f"does not have {name}; the best it has is {best}"):
            extension.use_isa(name)
        monkeypatch.setenv("QUIRE_ISA", name.upper())
        with pytest.raises(ConfigError, match=f"QUIRE_ISA: This processor does not have {name}"):
            find_native.__wrapped__()
    assert extension.isa() == best


def test_an_environment_variable_that_names_no_instructions_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIRE_ISA", "mmx")
    with pytest.raises(ConfigError, match="QUIRE_ISA: mmx is no set of instructions"):
        find_native.__wrapped__()


def test_an_environment_variable_lowers_the_instructions_of_a_process_wherever_it_starts(tmp_path: Path) -> None:
    code = "from quire.ops.native import native; print(native().isa(), native().best_isa())"
    environment = {**os.environ, "QUIRE_ISA": "portable"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert found.stdout.split() == ["portable", extension.best_isa()], found.stderr


def test_it_shares_torchs_threads_and_needs_no_library_of_its_own() -> None:
    library = Path(str(extension.__file__)).read_bytes()
    assert b"libgomp" not in library and b"libstdc++" not in library
    assert b"GOMP_parallel" in library


def test_the_number_of_threads_is_torchs() -> None:
    before = torch.get_num_threads()
    try:
        for wanted in (1, 3):
            torch.set_num_threads(wanted)
            assert extension.num_threads() == wanted
    finally:
        torch.set_num_threads(before)


def test_a_call_with_wrong_arguments_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="gemm takes 11 arguments; 1 came"):
        extension.gemm(1)
    with pytest.raises(TypeError):
        extension.gemm(*["x"] * 11)
