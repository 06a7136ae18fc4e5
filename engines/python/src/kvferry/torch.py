"""The pool's arrays as torch tensors. Needs torch, which the rest of the package does not import."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .layout import Layout
from .pool import Pool

#: NumPy knows neither bf16 nor f8, and torch few unsigned types: the bits go over as signed integers and are then renamed.
_CARRIERS: dict[int, npt.DTypeLike] = {1: np.uint8, 2: np.int16, 4: np.int32}
DTYPES: dict[str, torch.dtype] = {
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "f32": torch.float32,
    "f8_e4m3": torch.float8_e4m3fn,
    "f8_e5m2": torch.float8_e5m2,
    "u8": torch.uint8,
}


def tensor(pool: Pool, layout: Layout, group: int, component: int, layer: int | None = None) -> torch.Tensor:
    """As `Pool.array`, with the element's own type. It is the pool's memory, not a copy."""
    array = pool.array(layout, group, component, layer)
    return as_tensor(array, layout.groups[group].components[component].element)


def as_tensor(array: npt.NDArray[Any], element: str) -> torch.Tensor:
    return torch.from_numpy(array.view(_CARRIERS[array.dtype.itemsize])).view(DTYPES[element])
