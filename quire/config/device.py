"""Options of the device: where and with what the model is computed.

Not here: what a device can do (platforms/).
Door: DeviceOptions.
"""

from __future__ import annotations

from dataclasses import dataclass

from quire.config.option import option


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Where the model is computed."""

    device: str = option("auto", "A name on the shelf platforms; auto: the best there is, which is said.")
    attention_backend: str | None = option(
        None, "A name on the shelf attention. Default: the platform's first.", kind="text"
    )
    linear_backend: str = option(
        "auto",
        "What multiplies with the weights: native (Quire's kernels), torch; auto: native where it was built.",
        choices=("auto", "native", "torch"),
    )
    num_threads: int = option(
        0, "Threads of the worker on a CPU; 0: one for each core that the machine lets it use.", low=0, high=4096
    )
    cpu_omp_threads_bind: str = option(
        "auto",
        "Processors that the worker's threads keep to: a list such as 0-7,16; nobind: any; auto: on a machine with "
        "several nodes of memory, as few nodes as have enough cores.",
    )
