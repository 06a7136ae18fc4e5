"""Confidence intervals by resampling what was measured, always in pairs: compressed and not compressed of the same text."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

RESAMPLES = 10_000
SEED = 6

# From means [..., columns] to the figure [...].
Figure = Callable[[Tensor], Tensor]


def first(means: Tensor) -> Tensor:
    return means[..., 0]


def estimate(columns: Tensor, figure: Figure = first) -> dict[str, float]:
    """Of columns [units, columns] the figure of their means, and the bounds between which it lies in 95 % of the resamples of units."""
    columns = columns.double()
    generator = torch.Generator().manual_seed(SEED)
    chosen = torch.randint(columns.shape[0], (RESAMPLES, columns.shape[0]), generator=generator)
    resampled = figure(columns[chosen].mean(1))
    low, high = torch.quantile(resampled, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"value": figure(columns.mean(0)).item(), "low": low, "high": high}
