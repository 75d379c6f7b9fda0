"""Who can race: how each engine is started, on which file of the model, and with whom it compares.

Not here: starting them (peer_process.py), making their environments (setup.sh).
Door: Racer, line_up, BF16_RACERS.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

BF16_RACERS = ("quire", "vllm", "llama.cpp", "openvino")


class Racer(Struct, frozen=True):
    """One engine with one form of the model. ``bits``: racers with as many bits a weight are compared."""

    name: str
    module: str
    python: Path
    model: Path
    form: str
    bits: int
    environment: Mapping[str, str] = {}

    @property
    def is_quire(self) -> bool:
        return self.module == "quire_peer"

    def missing(self) -> str:
        """What setup.sh has not made; empty when all is there."""
        return next((str(path) for path in (self.python, self.model) if not path.exists()), "")


def line_up(folder: Path, checkpoint: Path, quire_python: Path) -> dict[str, Racer]:
    """All racers by name, for the folder that setup.sh filled and the checkpoint that it converted."""
    forms = folder / "models" / checkpoint.name
    vllm, own_threads = _vllm_environments(folder)
    racers = [
        Racer("quire", "quire_peer", quire_python, checkpoint, "bf16", 16),
        Racer("vllm", "vllm_peer", _python(folder, "vllm"), checkpoint, "bf16", 16, vllm),
        Racer("vllm-default", "vllm_peer", _python(folder, "vllm"), checkpoint, "bf16", 16, own_threads),
        Racer("llama.cpp", "llama_cpp_peer", _python(folder, "llama_cpp"), forms / "bf16.gguf", "bf16", 16),
        Racer("openvino", "openvino_peer", _python(folder, "openvino"), forms / "openvino-fp16", "fp16", 16),
        Racer("quire-int8", "quire_peer", quire_python, checkpoint, "int8", 8),
        Racer("quire-w8a8", "quire_peer", quire_python, checkpoint, "w8a8", 8),
        Racer("quire-int4", "quire_peer", quire_python, checkpoint, "int4", 4),
    ]
    for form, bits in (("q8_0", 8), ("q4_k_m", 4)):
        python, model = _python(folder, "llama_cpp"), forms / f"{form}.gguf"
        racers.append(Racer(f"llama.cpp-{form}", "llama_cpp_peer", python, model, form, bits))
    for form, bits in (("int8", 8), ("int4", 4)):
        python, model = _python(folder, "openvino"), forms / f"openvino-{form}"
        racers.append(Racer(f"openvino-{form}", "openvino_peer", python, model, form, bits))
    return {racer.name: racer for racer in racers}


def _vllm_environments(folder: Path) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """With every core and Intel's OpenMP, as its documentation advises; and with its own defaults.

    By default it keeps one core for its scheduler, which leaves it one of two to compute on.
    """
    common = {"VLLM_CPU_KVCACHE_SPACE": "4", "VLLM_CACHE_ROOT": str(folder / "cache" / "vllm"), "DO_NOT_TRACK": "1"}
    every_core = {**common, "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}
    openmp = folder / "vllm" / "lib" / "libiomp5.so"
    if openmp.exists():
        every_core["LD_PRELOAD"] = str(openmp)
    return every_core, common


def _python(folder: Path, name: str) -> Path:
    return folder / name / "bin" / "python"
