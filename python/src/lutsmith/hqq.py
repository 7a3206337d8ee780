"""Offsets that suit all weights of a group but a few: half-quadratic quantization, which needs no data.

Badri and Shaji, Half-Quadratic Quantization of Large Machine Learning Models, 2023: of w = scale * (code - zero) the zero
is sought that makes sum |error|^p least. With p < 1 outliers weigh little in it. A second variable e, the error that
may stay, makes that two problems that have a solution each, taken in turns while beta grows:

    e     <-  sign(error) max(0, |error| - |error|^(p - 1) / beta), near the least of |e|^p + beta / 2 (e - error)^2
    zero  <-  the mean over the group of code - (w - e) / scale,      code = round(w / scale + zero)

Scales are those of the group's least and largest weight, and stay. Errors are in units of the scale, so that the same
beta does for weights of any size; the authors' program has them as they are.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.codes import groups_of

__all__ = ["METHOD", "Solution", "solve"]

METHOD = "hqq"
_WEIGHTS_AT_ONCE = 1 << 14  # what a core's caches hold with what a turn makes of it; too few to start threads
_TINY = 1e-30


class Solution(NamedTuple):
    """w = scale * (code - 2**(bits - 1)) + offset: the table of method "int"."""

    codes: torch.Tensor  #: [N, K], uint8
    scales: torch.Tensor  #: [N, groups], float16 or bfloat16
    offsets: torch.Tensor  #: of the same shape and type


def solve(
    weight: torch.Tensor,
    bits: int,
    group: int,
    dtype: torch.dtype,
    norm: float = 0.7,
    beta: float = 10.0,
    growth: float = 1.01,
    turns: int = 20,
) -> Solution:
    """Codes, scales and offsets of a matrix [N, K] in groups of `group` along K (0: whole rows).

    Of the zeros that the turns go through, a group has the one with the least sum |error|^norm, all rounded to `dtype`;
    the first is that of its least and largest weight, so that none is worse than with those.

    Args:
        norm: p, above 0 and below 1.
        beta, growth: how little e may differ from the errors at first, and by what it grows each turn.

    Raises:
        Error: for weights that are not finite, or whose scales are beyond the range of `dtype`.
    """
    n, k = weight.shape
    rows = weight.detach().float()
    if not bool(torch.isfinite(rows).all()):
        row, column = (int(each) for each in (~torch.isfinite(rows)).nonzero()[0])
        raise Error(f"weights: {float(rows[row, column])} at row {row}, column {column}; every weight must be finite")
    width = group or k
    groups = groups_of(k, group)
    codes = torch.empty((n, k), dtype=torch.uint8, device=rows.device)
    scales = torch.empty((n, groups), dtype=dtype, device=rows.device)
    offsets = torch.empty_like(scales)
    whole = k // width * width
    at_once = max(1, _WEIGHTS_AT_ONCE // k)
    for first in range(0, n, at_once):
        some = slice(first, first + at_once)
        # Full groups, and what is left of a row.
        for columns, places in ((slice(0, whole), slice(0, k // width)), (slice(whole, k), slice(k // width, groups))):
            part = rows[some, columns]
            if part.numel() == 0:
                continue
            solver = _Groups(part.reshape(part.shape[0], places.stop - places.start, -1), bits, dtype, norm)
            solver.improve(beta, growth, turns)
            codes[some, columns] = solver.codes().reshape(part.shape)
            scales[some, places], offsets[some, places] = solver.scales, solver.best_offsets
    if not bool(torch.isfinite(scales).all() and torch.isfinite(offsets).all()):
        raise Error(
            f"weights: scales or offsets are beyond the range of {dtype}; divide the weights by a constant first"
        )
    return Solution(codes, scales, offsets)


class _Groups:
    """Groups [..., size] of one matrix, each with a zero of its own."""

    def __init__(self, weights: torch.Tensor, bits: int, dtype: torch.dtype, norm: float) -> None:
        self.weights, self.norm = weights, norm
        self.most = 2**bits - 1
        self.middle = 2 ** (bits - 1)
        least, largest = weights.aminmax(dim=-1)
        self.scales = ((largest - least) / self.most).to(dtype)
        stored = self.scales.float().unsqueeze(-1)
        # Where all weights are the same, or nearly, the offset alone stands for them.
        self.inverse = torch.where(stored > 0, 1 / stored, 0)
        self.stored = stored
        self.best_offsets = (least.unsqueeze(-1) + self.middle * stored).squeeze(-1).to(dtype)
        self.least_error = torch.full_like(stored.squeeze(-1), math.inf)

    def _rounded(self, offsets: torch.Tensor) -> torch.Tensor:
        """Codes as they are nearest with these offsets, as numbers from 0."""
        zeros = self.middle - offsets.float().unsqueeze(-1) * self.inverse
        return (self.weights * self.inverse + zeros).round_().clamp_(0, self.most)

    def codes(self) -> torch.Tensor:
        return self._rounded(self.best_offsets).to(torch.uint8)

    def improve(self, beta: float, growth: float, turns: int) -> None:
        scales = self.stored.squeeze(-1)
        offsets = self.best_offsets
        for turn in range(turns + 1):
            codes = self._rounded(offsets)
            # In units of the scale.
            ratios = self.weights * self.inverse
            error = ratios - offsets.float().unsqueeze(-1) * self.inverse - (codes - self.middle)
            size = error.abs()
            powers = size.pow(self.norm)
            found = powers.sum(-1)
            better = found < self.least_error
            self.least_error = torch.where(better, found, self.least_error)
            self.best_offsets = torch.where(better, offsets, self.best_offsets)
            if turn == turns:
                break
            smaller = powers.div_(size.clamp(min=_TINY)).div_(beta)  # |error|^(p - 1) / beta
            stays = size.sub_(smaller).clamp_(min=0).mul_(error.sign_())
            zeros = codes.sub_(ratios).add_(stays).mean(-1)
            offsets = ((self.middle - zeros) * scales).to(self.scales.dtype)
            offsets = torch.where(scales > 0, offsets, self.best_offsets)
            beta *= growth
