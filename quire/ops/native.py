"""The extension with the CPU kernels, or the reason why there is none.

Not here: what the kernels compute (gemm_native.py and its like), the kernels (native/).
Door: native, find_native, DTYPE_CODES, dtype_code, check_floats.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from types import ModuleType

import torch  # before the extension: it brings the OpenMP runtime that the kernels share
from torch import Tensor

from quire.config.env import read_env
from quire.errors import ConfigError

_NAME = "quire._native"

DTYPE_CODES: dict[torch.dtype, int] = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""The types of numbers that the row kernels take, by native/rows/rows.h."""


@cache
def find_native() -> ModuleType | None:
    """The extension, or None where Quire was installed without it.

    Raises: ConfigError when it cannot be loaded, or when QUIRE_ISA asks for instructions that do not exist or that
    the processor lacks.
    """
    if importlib.util.find_spec(_NAME) is None:
        return None
    try:
        extension = importlib.import_module(_NAME)
    except ImportError as error:
        raise ConfigError(f"Quire's native kernels cannot be loaded ({error}); install Quire again.") from None
    isa = read_env().isa
    if isa:
        try:
            extension.use_isa(isa)
        except ValueError as error:
            raise ConfigError(f"QUIRE_ISA: {error}") from None
    return extension


def native() -> ModuleType:
    """The extension.

    Raises: ConfigError where Quire was installed without it.
    """
    extension = find_native()
    if extension is None:
        raise ConfigError(
            "Quire was installed without its native kernels: no C++ compiler was found, or no headers of Python. "
            "Install them and Quire again, or choose --linear-backend torch."
        )
    return extension


def dtype_code(dtype: torch.dtype) -> int:
    """The row kernels' number for a type.

    Raises: ConfigError for a type that they do not take.
    """
    if dtype not in DTYPE_CODES:
        raise ConfigError(f"The native kernels take {', '.join(map(str, DTYPE_CODES))}; not {dtype}.")
    return DTYPE_CODES[dtype]


def check_floats(x: Tensor, dtype: torch.dtype, width: int) -> None:
    """Refuse what a kernel that was bound to this type and this last dimension would misread.

    Raises: ConfigError.
    """
    if x.dtype is not dtype or x.shape[-1] != width or not x.is_contiguous():
        raise ConfigError(
            f"A native kernel bound to contiguous {dtype} [..., {width}] was given {x.dtype} {tuple(x.shape)} with "
            f"strides {x.stride()}."
        )
