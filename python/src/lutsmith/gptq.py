"""Rounding with error feedback: each column makes up for what the columns before it lost.

Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, 2022, algorithm 1,
with any table of single values in place of the paper's integers. Columns keep their order (the paper's implementation
may sort them, which would make kernels permute x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lutsmith import codes as code_packing
from lutsmith import formats, higgs, hqq
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.calibration import product_energy
from lutsmith.packed_weight import Group, PackedWeight, check_matrix, quantize, scale_choice

__all__ = ["Feedback", "output_error", "quantize_with_feedback"]

#: Without tokens to choose by: less fits the calibration's tokens more, and a model worse (docs/quantizers.md).
_USUAL_DAMPING = 0.1
#: What held-out tokens choose from. The more damping, the closer to rounding to nearest.
_DAMPINGS = (0.03, 0.1, 0.3, 1.0, 3.0)
_BLOCK = 128  # columns whose errors reach the columns behind them in one product


@dataclass(frozen=True)
class Feedback:
    """What `quantize_with_feedback` made.

    Attributes:
        packed: the matrix.
        output_error: squared error of its products over the square of the products, on held-out tokens where there are
            some, and on the calibration's otherwise.
        nearest_output_error: the same of the matrix that `lutsmith.quantize` makes with the same settings.
        kept_nearest: whether `packed` is that one, as feedback was no better.
        damping: what `packed` was made with; 0 where it is the nearest.
    """

    packed: PackedWeight
    output_error: float
    nearest_output_error: float
    kept_nearest: bool
    damping: float


def quantize_with_feedback(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    method: str = "nf",
    bits: int = 4,
    group: Group = 64,
    table: Sequence[float] | torch.Tensor | None = None,
    dtype: torch.dtype | None = None,
    scales: str | None = None,
    importance: torch.Tensor | None = None,
    damping: float | None = None,
    static_scales: bool = True,
    held_out: torch.Tensor | None = None,
) -> Feedback:
    """Rounds columns one after the other, and moves those that follow so that outputs stay where they were.

    Args:
        weight: [N, K], as for `lutsmith.quantize`, as are method, bits, group, dtype and scales. Its device does the
            work.
        hessian: [K, K], float32 or float64, the sum (or mean) of x x^T over tokens: what a calibration collects.
        table: as for `lutsmith.quantize`, single values.
        importance: as for `lutsmith.quantize`; by default the diagonal of the Hessian.
        damping: what is added to the Hessian's diagonal, as a part of the diagonal's mean. By default the best of
            0.03, 0.1, 0.3, 1 and 3 on the held-out tokens, until one is worse than that before; without such, 0.1.
        static_scales: takes the scales of the weights as they are given, which left models better. Otherwise those of a
            group are chosen when its first column is reached, for the weights as they are by then.
        held_out: [K, K], the Hessian of other tokens, best of another text. They judge instead of the calibration's
            own, on which feedback always looks better than it is.

    Returns:
        The packed matrix. Its output error on the tokens that judge is never above that of `lutsmith.quantize` with the
        same settings, whose matrix is returned where feedback gives no better one.

    Raises:
        Error: as `lutsmith.quantize`; for a Hessian of another shape or type, or one that is not positive definite even
            with damping.
    """
    check_matrix(weight)
    counts = _counts(importance, hessian, weight.shape[1])
    if held_out is not None:
        _check_hessian("held_out", held_out, weight.shape[1])
    if damping is not None and not 0 < damping < math.inf:
        raise Error(f"damping: {damping} is not allowed; allowed: above 0, such as {_USUAL_DAMPING}")
    if method in (higgs.METHOD, hqq.METHOD):
        raise Error(f"method: {method!r} is not allowed with feedback, which has no transforms and no offsets")
    nearest = quantize(weight, method, bits, group, table, dtype, scales, counts)
    if formats.known(nearest.format).table_kind != "scalar":
        raise Error("table: pairs of values, or one for each row, are not allowed with feedback; allowed: one value a code")
    weight = weight.detach()
    judge = hessian if held_out is None else held_out
    of_nearest = output_error(weight, nearest, judge)
    best = Feedback(nearest, of_nearest, of_nearest, True, 0.0)
    if damping is not None:
        dampings: Sequence[float] = (damping,)
    else:
        dampings = (_USUAL_DAMPING,) if held_out is None else _DAMPINGS
    before = math.inf
    for each in dampings:
        columns = _Columns(nearest, weight, scale_choice(method, table, scales), counts, static_scales)
        fed = columns.quantize(_inverse_factor(hessian.to(weight.device), each))
        of_fed = output_error(weight, fed, judge)
        if of_fed < best.output_error:
            best = Feedback(fed, of_fed, of_nearest, False, each)
        if of_fed >= before:
            break
        before = of_fed
    return best


def output_error(weight: torch.Tensor, packed: PackedWeight, hessian: torch.Tensor) -> float:
    """||X (W - packed)^T||^2 / ||X W^T||^2 for the tokens X whose Hessian X^T X is given; 0 where all products are."""
    weight = weight.detach().float()
    energy = product_energy(weight, hessian)
    difference = weight - packed.dequantize(torch.float32).to(weight.device)
    return product_energy(difference, hessian) / energy if energy > 0 else 0.0


def _counts(importance: torch.Tensor | None, hessian: torch.Tensor, k: int) -> torch.Tensor:
    """The importance that is given, else the Hessian's diagonal. Raises Error for a Hessian that is not one of k."""
    _check_hessian("hessian", hessian, k)
    return hessian.diagonal().clamp(min=0) if importance is None else importance


def _check_hessian(name: str, hessian: torch.Tensor, k: int) -> None:
    if not isinstance(hessian, torch.Tensor) or tuple(hessian.shape) != (k, k):
        given = tuple(hessian.shape) if isinstance(hessian, torch.Tensor) else type(hessian).__name__
        raise Error(f"{name}: {given} is not allowed; allowed: a tensor [{k}, {k}], the sum of x x^T")
    if hessian.dtype not in (torch.float32, torch.float64):
        raise Error(f"{name}: {hessian.dtype} is not allowed; allowed: torch.float32, torch.float64")


def _inverse_factor(hessian: torch.Tensor, damping: float) -> torch.Tensor:
    """U [K, K], upper triangular, with U^T U the inverse of the damped Hessian, in float32."""
    damped = hessian.to(torch.float64 if hessian.device.type == "cpu" else hessian.dtype).clone()
    diagonal = damped.diagonal()
    mean = diagonal.mean()
    # A channel that no token reaches may become anything; its own diagonal keeps the factor's finite.
    diagonal[diagonal == 0] = mean if mean > 0 else 1
    diagonal += damping * diagonal.mean()
    lower, failed = torch.linalg.cholesky_ex(damped)
    if int(failed) != 0 or not bool(torch.isfinite(lower.diagonal()).all()):
        raise Error(
            f"hessian: it is not positive definite, even with damping {damping}; give more damping or tokens, or sum it "
            "in float64"
        )
    inverse = torch.cholesky_inverse(lower)
    upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
    if int(failed) != 0:
        raise Error(f"hessian: its inverse cannot be factored with damping {damping}; give more damping")
    return upper.float()


class _Columns:
    """Rounds the columns of one matrix."""

    def __init__(
        self,
        nearest: PackedWeight,
        weight: torch.Tensor,
        scales: str,
        counts: torch.Tensor,
        static_scales: bool,
    ) -> None:
        """nearest: as `quantize` makes it of `weight`, on the same device. Its table is used."""
        self.format = formats.known(nearest.format)
        self.weight = weight.float().clone()
        self.group = self.format.group or self.format.k
        self.counts = counts
        self.static_scales = static_scales
        self.scales = scales
        values, order = torch.tensor(self.format.table, dtype=torch.float32, device=weight.device).sort(stable=True)
        self.values, self.order = values, order.to(torch.uint8)
        self.halfway = (values[1:] + values[:-1]) / 2
        self.codes, self.stored, *_ = code_packing.unpack(nearest.data, self.format)

    def quantize(self, inverse: torch.Tensor) -> PackedWeight:
        k = self.format.k
        scale = self.weight.new_zeros(self.format.n)
        for start in range(0, k, _BLOCK):
            end = min(start + _BLOCK, k)
            errors = self.weight.new_zeros(self.format.n, end - start)
            for column in range(start, end):
                if column % self.group == 0:
                    scale = self._scale(column)
                weight = self.weight[:, column]
                nearest = torch.bucketize(torch.where(scale == 0, 0, weight / scale), self.halfway)
                self.codes[:, column] = self.order[nearest]
                error = (weight - scale * self.values[nearest]) / inverse[column, column]
                self.weight[:, column:end] -= error.unsqueeze(1) * inverse[column, column:end].unsqueeze(0)
                errors[:, column - start] = error
            self.weight[:, end:] -= errors @ inverse[start:end, end:]
        words = self.stored.view(torch.int16)
        packed = code_packing.pack_words(code_packing.Parts(self.codes.cpu(), words.cpu(), None), self.format)
        return PackedWeight(packed.to(self.weight.device), self.format.line)

    def _scale(self, column: int) -> torch.Tensor:
        """Of the group that begins with `column`, [N].

        The group either ends within the block or begins with it: its columns have all that was lost so far.
        """
        index = column // self.group
        if not self.static_scales:
            last = min(column + self.group, self.format.k)
            self._choose(index, self.weight[:, column:last], self.counts[column:last])
        return self.stored[:, index].float()

    def _choose(self, index: int, members: torch.Tensor, counts: torch.Tensor) -> None:
        try:
            chosen = quantize(
                members,
                bits=self.format.bits,
                group=0,
                table=self.format.table,
                dtype=self.format.dtype,
                scales=self.scales,
                importance=counts,
            )
        except Error:
            return  # too small or too large for 16 bits by themselves: the scales of the given weights remain
        self.stored[:, index] = chosen.scales()[:, 0]
