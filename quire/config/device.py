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
        0, "Threads of the worker on a CPU; 0: as many as the machine lets it use.", low=0, high=4096
    )
