"""Whole numbers that callers give: of any integer type, NumPy's too. Whatever else comes is refused as invalid_argument."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import expected

Words = npt.NDArray[np.uint32]

WORD_MAX = 0xFFFF_FFFF
#: The largest that JavaScript holds exactly, so the largest that the sidecar takes.
INTEGER_MAX = 2**53 - 1


def integer(value: Any, name: str, least: int = 0, most: int = INTEGER_MAX) -> int:
    try:
        # True and False are integers to Python, but never meant as such.
        number = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        raise expected(f"an integer from {least} to {most}", name, value)
    return number


def integers(value: object, *names: str) -> None:
    """Of a frozen value that is being made: these fields are integers from now on."""
    for name in names:
        object.__setattr__(value, name, integer(getattr(value, name), name))


def words(values: Any, name: str) -> Words:
    """A new array."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        array = np.empty((), object)
    is_empty = array.shape == (0,)
    if array.ndim != 1 or not (is_empty or array.dtype.kind in "iu"):
        raise expected("one row of integers", name, values)
    if not is_empty and array.dtype != np.uint32 and not 0 <= int(array.min()) <= int(array.max()) <= WORD_MAX:
        raise expected(f"integers from 0 to {WORD_MAX}", name, values)
    return array.astype(np.uint32)
