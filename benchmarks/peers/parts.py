"""What a race consists of: its parts, their jobs, who runs in them, and how long each takes, roughly.

Not here: running them (rounds.py, serving.py), what the figures should be (goals.toml).
Door: Part, Served, OFFLINE, SERVED, estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from benchmarks.peers.lineup import Racer, Server
from quire.bench.jobs import PEER_JOBS, counts_prompts, name_of
from quire.bench.limits import Limits
from quire.bench.offline import Batch

WARM_UPS = (Batch(8, 128, 8), Batch(1, 1024, 1))
_LIMITS_S = 8.0
_CLIENT_S = 1.5  # its start, and its first request


class Part(Struct, frozen=True):
    """Batches for engines in their own processes. ``rounds`` 0: as many as the command line says.

    ``is_alone``: one engine after the other is loaded, so that many requests fit into memory; else all are loaded and
    take turns. ``box_s``: an engine begins no further job of the part that would probably end later than this after
    its first (0: no such limit); what was left out is in the record.
    """

    about: str
    racers: tuple[str, ...]
    batches: tuple[Batch, ...]
    rounds: int = 0
    is_alone: bool = False
    box_s: float = 0.0


class ServedJob(Struct, frozen=True):
    """One load. ``rate`` 0: as many requests at once as ``concurrency``, each followed by the next. Else they arrive as
    a Poisson process for ``window_s`` seconds, at this share of what the fastest server did a second without a rate."""

    name: str
    input_len: int
    output_len: int
    num_requests: int = 0
    concurrency: int = 0
    rate: float = 0.0
    window_s: float = 0.0


class Served(Struct, frozen=True):
    """Loads over HTTP. ``model``: the checkpoint's name under ``.scratch/served``; ``label``: what figures call it."""

    about: str
    model: str
    label: str
    jobs: tuple[ServedJob, ...]
    kv_bytes: int
    rounds: int = 0
    goodput: tuple[str, ...] = ()
    seconds_a_round: float = 20.0


_CURVE = tuple(Batch(num, 128, 64) for num in (1, 2, 4, 8, 16, 32, 64, 128))

OFFLINE: Mapping[str, Part] = {
    "jobs": Part("the peers' jobs in bf16", ("quire", "vllm", "llama.cpp", "openvino"), PEER_JOBS),
    "quantised": Part(
        "8 and 4 bits a weight",
        (
            *("quire-int8", "quire-w8a8", "quire-int4", "quire-w4a8"),
            *("llama.cpp-q8_0", "llama.cpp-q4_k_m", "openvino-int8", "openvino-int4"),
        ),
        (Batch(1, 16, 64), Batch(32, 128, 64), Batch(1, 1024, 1)),
    ),
    "generate": Part(
        "against generate of transformers, one request after the other",
        ("quire", "transformers"),
        (Batch(64, 128, 64),),
        rounds=1,
    ),
    "curve": Part(
        "throughput against requests at once",
        ("quire", "vllm", "llama.cpp", "openvino"),
        _CURVE,
        rounds=1,
        is_alone=True,
        box_s=240.0,
    ),
}

SERVED: Mapping[str, Served] = {
    "serving": Served(
        "a tiny model over HTTP: what the engine around the model costs",
        "tiny-llama",
        "tiny",
        (
            ServedJob("64 streams", 16, 128, num_requests=256, concurrency=64),
            ServedJob("1 stream", 16, 128, num_requests=8, concurrency=1),
        ),
        kv_bytes=512 << 20,
        seconds_a_round=25.0,
    ),
    "poisson": Served(
        "the 0.6B shapes over HTTP: requests at random times, and who serves how many within the limits",
        "qwen3-0.6b",
        "0.6B",
        (
            ServedJob("all at once", 128, 64, num_requests=32, concurrency=32),
            ServedJob("Poisson at 0.3", 128, 64, rate=0.3, window_s=30.0),
            ServedJob("Poisson at 0.7", 128, 64, rate=0.7, window_s=30.0),
        ),
        kv_bytes=1536 << 20,
        rounds=1,
        goodput=("ttft:1500", "tpot:200"),
        seconds_a_round=230.0,
    ),
}


def in_curve(job: str) -> bool:
    """Whether the job of this name is a point of the curve."""
    return any(job == name_of(batch) for batch in _CURVE)


def offline_seconds(
    racers: Sequence[Racer],
    batches: Sequence[Batch],
    rounds: int,
    box_s: float,
    ceilings: Mapping[tuple[int, str], float],
) -> float:
    """About how long a part takes: the machine's limit for each (bits, job), and the share of it each racer reached."""
    total = 2 * _LIMITS_S
    for racer in racers:
        one_round = sum(_job_seconds(racer, batch, ceilings[racer.bits, name_of(batch)]) for batch in batches)
        total += racer.start_s + 3.0 + rounds * (min(one_round, box_s) if box_s else one_round)
    return total


def _job_seconds(racer: Racer, batch: Batch, ceiling: float) -> float:
    tokens = batch.num_input_tokens if counts_prompts(batch) else batch.num_output_tokens
    seconds = tokens / ceiling / racer.pace
    if racer.most_prompts and batch.num_prompts > racer.most_prompts:  # one by one: nothing is gained by many
        seconds *= racer.most_prompts / batch.num_prompts * 8
    return seconds


def served_seconds(part: Served, racers: Sequence[Server], rounds: int, *, with_cold: bool) -> float:
    """About how long a part takes, from where we have raced it."""
    starts = sum(racer.start_s * (2.5 if with_cold else 1.0) for racer in racers)
    share = len(racers) / 2
    return 2 * _LIMITS_S + starts + rounds * share * (part.seconds_a_round + 2 * _CLIENT_S * len(part.jobs))


def limits_for(bits: int, limits: Limits) -> tuple[float, float]:
    """What bounds a form with so many bits a weight: bytes a weight, and the most multiplications (GFLOP/s).

    Fewer bits may be multiplied as int8, if the machine does that faster: what nobody needs to do, but could.
    """
    if bits == 16:
        return 2.0, limits.bf16_gflop_s
    return bits / 8, max(limits.bf16_gflop_s, limits.int8_gop_s)
