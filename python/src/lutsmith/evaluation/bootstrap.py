"""Intervals of what is averaged over windows, by resampling the windows.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993: the percentile interval, section 13.3. What is drawn are
whole windows, since tokens of one window depend on each other (Künsch, The jackknife and the bootstrap for general
stationary observations, 1989, draws blocks for this reason).

Two models are compared on the same draws of the same windows: how hard a window is moves both perplexities alike, and
mostly cancels in their ratio. Intervals of each alone would hide a difference that every window shows. (Koehn,
Statistical significance tests for machine translation evaluation, 2004, does so with sentences.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lutsmith._torch import torch

__all__ = ["COVERAGE", "RESAMPLES", "Estimate", "interval"]

RESAMPLES = 1000
COVERAGE = 0.95
_SEED = 0
_AT_ONCE = 100  # draws in memory, each of as many numbers as there are windows


class Estimate(NamedTuple):
    """A value and its 95 % interval; the bounds are NaN where there is one window, of which nothing varies."""

    value: float
    low: float
    high: float


def interval(sums: torch.Tensor, statistic: Callable[[torch.Tensor], torch.Tensor]) -> Estimate:
    """The statistic of all windows, and where 95 % of its values lie over draws of windows with replacement.

    The same draws for every call with as many windows, so results are the same each time, and pairs stay pairs.

    Args:
        sums: [windows, columns], float64: what each window adds.
        statistic: [..., columns], added up, -> [...].
    """
    value = float(statistic(sums.sum(0)))
    windows = len(sums)
    if windows < 2:
        return Estimate(value, float("nan"), float("nan"))
    generator = torch.Generator().manual_seed(_SEED)
    drawn = []
    for _ in range(0, RESAMPLES, _AT_ONCE):
        chosen = torch.randint(windows, (_AT_ONCE, windows), generator=generator)
        times = torch.zeros(_AT_ONCE, windows, dtype=torch.float64)
        times.scatter_add_(1, chosen, torch.ones_like(times))
        drawn.append(statistic(times @ sums))
    tail = (1 - COVERAGE) / 2
    bounds = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    low, high = torch.quantile(torch.cat(drawn), bounds).tolist()
    return Estimate(value, low, high)
