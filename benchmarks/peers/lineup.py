"""Who can race: how each engine is started, on which file of the model, and with whom it compares.

Not here: starting them (peer_process.py, server_process.py), making their environments (setup.sh), what is asked of
them (parts.py).
Door: Racer, line_up; Server, servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

SERVED_NAME = "served"
_VLLM_CACHE = "VLLM_CACHE_ROOT"


class Racer(Struct, frozen=True):
    """One engine with one form of the model. ``bits``: racers with as many bits a weight are compared.

    ``most_prompts``: of a job's requests only so many are run (0: all), because the engine takes one after the other;
    its figure is then of these, and the record says so. ``pace`` and ``start_s``, for the estimate of how long a race
    takes: the share of the machine's limit that it reached, and the seconds of its start, where we have raced it.
    ``cache_variable``: in its environment, names the folder of its compiled programs.
    """

    name: str
    module: str
    python: Path
    model: Path
    form: str
    bits: int
    environment: Mapping[str, str] = {}
    cache_variable: str = ""
    most_prompts: int = 0
    pace: float = 0.5
    start_s: float = 3.0

    @property
    def is_quire(self) -> bool:
        return self.module == "quire_peer"

    def missing(self) -> str:
        """What setup.sh has not made; empty when all is there."""
        return next((str(path) for path in (self.python, self.model) if not path.exists()), "")


class Server(Struct, frozen=True):
    """One engine's HTTP server for one checkpoint. ``cache_variable``: names the folder of its compiled programs."""

    name: str
    command: tuple[str, ...]
    model: Path
    environment: Mapping[str, str] = {}
    cache_variable: str = ""
    start_s: float = 3.0

    @property
    def is_quire(self) -> bool:
        return self.name == "quire"

    def missing(self) -> str:
        """What setup.sh has not made; empty when all is there."""
        needed = (Path(self.command[0]), self.model / "tokenizer.json")
        return next((str(path) for path in needed if not path.exists()), "")


def line_up(folder: Path, checkpoint: Path, quire_python: Path) -> dict[str, Racer]:
    """All racers by name, for the folder that setup.sh filled and the checkpoint that it converted."""
    forms = folder / "models" / checkpoint.name
    every_core, one_less = _vllm_environments(folder)
    vllm, llama, openvino = (_python(folder, name) for name in ("vllm", "llama_cpp", "openvino"))
    racers = [
        Racer("quire", "quire_peer", quire_python, checkpoint, "bf16", 16, pace=0.8),
        Racer("vllm", "vllm_peer", vllm, checkpoint, "bf16", 16, every_core, _VLLM_CACHE, pace=0.33, start_s=60),
        Racer("vllm-default", "vllm_peer", vllm, checkpoint, "bf16", 16, one_less, _VLLM_CACHE, pace=0.3, start_s=60),
        Racer("llama.cpp", "llama_cpp_peer", llama, forms / "bf16.gguf", "bf16", 16, pace=0.4),
        Racer("openvino", "openvino_peer", openvino, forms / "openvino-fp16", "fp16", 16, pace=0.65, start_s=5),
        Racer(
            "transformers", "transformers_peer", openvino, checkpoint, "bf16", 16, most_prompts=8, pace=0.4, start_s=8
        ),
    ]
    for form, bits in (("int8", 8), ("w8a8", 8), ("int4", 4), ("w4a8", 4)):
        racers.append(Racer(f"quire-{form}", "quire_peer", quire_python, checkpoint, form, bits, pace=0.45, start_s=6))
    for form, bits in (("q8_0", 8), ("q4_k_m", 4)):
        model = forms / f"{form}.gguf"
        racers.append(Racer(f"llama.cpp-{form}", "llama_cpp_peer", llama, model, form, bits, pace=0.15))
    for form, bits in (("int8", 8), ("int4", 4)):
        model = forms / f"openvino-{form}"
        racers.append(Racer(f"openvino-{form}", "openvino_peer", openvino, model, form, bits, pace=0.35, start_s=5))
    return {racer.name: racer for racer in racers}


def servers(folder: Path, model: Path, quire_python: Path, *, port: int, kv_bytes: int, num_seqs: int) -> list[Server]:
    """The servers of the engines that have one here, for a checkpoint with a tokenizer; each on a port of its own.

    The same settings for all: bf16, no prefix caching, ``num_seqs`` sequences at once. ``kv_bytes`` of KV for Quire;
    vLLM takes whole GiB, so it gets the next.
    """
    every_core, _ = _vllm_environments(folder)
    every_core = {**every_core, "VLLM_CPU_KVCACHE_SPACE": str(-(-kv_bytes // (1 << 30)))}
    same = ["--served-model-name", SERVED_NAME, "--dtype", "bfloat16", "--no-enable-prefix-caching"]
    same += ["--max-model-len", "2048", "--max-num-seqs", str(num_seqs)]
    quire = (str(quire_python), "-m", "quire", "serve", str(model), "--port", str(port))
    # The command `vllm` looks for a package of another name in this build and fails.
    vllm = (str(_python(folder, "vllm")), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model))
    return [
        Server("quire", (*quire, "--kv-cache-memory-bytes", str(kv_bytes), *same), model),
        Server("vllm", (*vllm, "--port", str(port + 1), *same), model, every_core, _VLLM_CACHE, 45),
    ]


def _vllm_environments(folder: Path) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """With every core and Intel's OpenMP, as its documentation advises; and with its own defaults.

    By default it keeps one core for its scheduler, which leaves it one of two to compute on. 3 GiB of KV hold 128
    requests of 192 tokens of the 0.6B shapes; it fills its KV at the start, and four engines must fit into memory.
    """
    common = {"VLLM_CPU_KVCACHE_SPACE": "3", _VLLM_CACHE: str(folder / "cache" / "vllm"), "DO_NOT_TRACK": "1"}
    every_core = {**common, "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}
    openmp = folder / "vllm" / "lib" / "libiomp5.so"
    if openmp.exists():
        every_core["LD_PRELOAD"] = str(openmp)
    return every_core, common


def _python(folder: Path, name: str) -> Path:
    return folder / name / "bin" / "python"
