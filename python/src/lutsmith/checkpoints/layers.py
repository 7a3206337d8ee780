"""A quantized matrix of a foreign checkpoint, and how it becomes a packed one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from lutsmith import formats
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.hadamard import Hadamard
from lutsmith.packed_weight import PackedWeight, dequantize_rows, quantize
from lutsmith.reordered import ReorderedWeight

__all__ = [
    "Aligned",
    "Codes",
    "Layer",
    "Loss",
    "Planned",
    "Refused",
    "aligned_groups",
    "dequantized",
    "group_size",
    "pack",
    "regrouped",
]

MOST_BITS = 4  # that kernels multiply
#: How values are quantized again where neither the caller nor the format says.
REQUANTIZED: dict[str, Any] = {"method": "nf", "bits": 4, "group": 64}

# What a table, scales and offsets that are rounded to 16 bits may cost together: half a unit of the last place each.
# More is the end of the type's range.
_ALLOWED_ERROR = {torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}
_WEIGHTS_AT_ONCE = 1 << 22


class Refused(Exception):
    """Why the codes of a layer cannot be carried over; a phrase that follows the layer's name and format."""


@dataclass(frozen=True)
class Codes:
    """weight [n, k] = scales[n, k // group] * table[codes[n, k]] + offsets[n, k // group], before anything is rounded.

    codes: [n, k], uint8.
    scales: [n, groups], float32.
    table: [2**bits], float32, or [4**bits, 2]: pairs for every two codes along k, of which the first is the lower half
        of the index.
    group: of a kernel, 0: one scale a row.
    offsets: as scales; None: there are none.
    order: [k], which column of the matrix each one here is (:class:`lutsmith.reordered.ReorderedWeight`); None: itself.
    hadamard: the transform of the matrix's rows that is stored; None: they are themselves.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    table: torch.Tensor
    group: int
    offsets: torch.Tensor | None = None
    order: torch.Tensor | None = None
    hadamard: Hadamard | None = None

    @property
    def bits(self) -> int:
        entries = self.table.shape[0].bit_length() - 1
        return entries if self.table.dim() == 1 else entries // 2

    def values(self, rows: slice) -> torch.Tensor:
        """[rows, k]: what the codes stand for, without scales."""
        codes = self.codes[rows].long()
        if self.table.dim() == 1:
            return self.table[codes]
        return self.table[codes[:, 0::2] | codes[:, 1::2] << self.bits].flatten(1)


class Planned(NamedTuple):
    """What `codes` of a layer will have; offsets: whether there is one beside each scale; reordered: whether columns
    are in another order."""

    bits: int
    group: int
    offsets: bool = False
    reordered: bool = False


class Layer(ABC):
    """One matrix as a format stores it. Nothing is read before `codes` or `weights` is called.

    Attributes:
        name: of the matrix that it stands for, as a model without quantization would have it.
        format: for messages.
        dtype: the type of scales that carries it over exactly or, where none does, that its library computes in.
        requantized: how its values are quantized again where the caller does not name a method.
    """

    requantized: Mapping[str, Any] = REQUANTIZED

    def __init__(self, name: str, format: str, dtype: torch.dtype) -> None:
        self.name = name
        self.format = format
        self.dtype = dtype

    @abstractmethod
    def planned(self) -> Planned:
        """Of headers and what else is small. Raises Refused where there are no codes that kernels could multiply."""

    @abstractmethod
    def codes(self) -> Codes:
        """Raises Refused as `planned` does."""

    @abstractmethod
    def weights(self) -> torch.Tensor:
        """[n, k], float32: the numbers that it stands for, by the format's own arithmetic."""


@dataclass(frozen=True)
class Loss:
    """What became of a tensor. Energies are sums of squares.

    Attributes:
        how: "exact", "rounded" (codes carried over; scales, offsets or table rounded to 16 bits), "requantized",
            "kept" (not quantized) or, of `convert`, "dequantized" and "left out".
        weights: energy of what is stored.
        error: energy of packed - stored.
        note: why it was requantized.
        largest: |packed - stored| of the weight that changed most, where it is rounded or requantized.
    """

    name: str
    format: str
    how: str
    weights: float = 0.0
    error: float = 0.0
    note: str = ""
    largest: float = 0.0

    @property
    def relative_error(self) -> float:
        return math.sqrt(self.error / self.weights) if self.weights else 0.0


class Aligned(NamedTuple):
    """Groups of a kernel whose columns share a scale.

    Attributes:
        group: their size; 0: all of a row.
        index: [groups]: which of the checkpoint's scales each has.
        order: [K]: which column of the checkpoint each is, where it spreads a scale's columns over K (act-order); None:
            they stay where they are.
    """

    group: int
    index: torch.Tensor
    order: torch.Tensor | None = None

    def columns(self, stored: torch.Tensor) -> torch.Tensor:
        """[N, K] as the checkpoint has it -> in this order."""
        return stored if self.order is None else stored[:, self.order].contiguous()


def aligned_groups(group_of_column: torch.Tensor, group: int) -> Aligned:
    """The largest groups of a kernel whose columns share a scale; if there are none, those of columns sorted by it.

    Columns of one scale keep their order among themselves, so that layers of one input that were quantized in the same
    order of columns, such as q, k and v, have the same one here.

    Args:
        group_of_column: [K], integers: which scale a column has.
        group: that the checkpoint names; where it spans all columns a kernel's group of the same size is taken.

    Raises Refused where the columns of no group share one.
    """
    k = group_of_column.numel()
    if bool((group_of_column == group_of_column[0]).all()):
        return Aligned(group if group in formats.GROUPS and group >= k else 0, group_of_column[:1])
    order = group_of_column.argsort(stable=True)
    for columns, permuted in ((group_of_column, None), (group_of_column[order], order)):
        for size in formats.GROUPS:
            first = columns[::size]
            if size < k and torch.equal(first.repeat_interleave(size)[:k], columns):
                return Aligned(size, first, permuted)
    if group in formats.GROUPS:
        raise Refused(
            f"numbers of columns share a scale (g_idx) that are no multiples of {formats.GROUPS[-1]}, the smallest "
            "group of kernels"
        )
    raise Refused(f"a scale for each {group} weights, where kernels have 32, 64, 128, 256 or one a row")


def group_size(k: int, groups: int, declared: Collection[int], name: str) -> int:
    """How many columns share a scale, where a row of k has so many groups and none is spread.

    A last group may be smaller (k 160 in groups of 128), so that the sizes which the configuration declares have the
    first word. Raises Error where none of them makes so many groups.
    """
    if groups == 1:
        return next((size for size in declared if size >= k), k)
    for size in declared:
        if size > 0 and -(-k // size) == groups:
            return size
    if any(size > 0 for size in declared) or k % groups != 0:
        raise Error(f"{name}: {groups} groups of {k} columns; the configuration names groups of {sorted(declared)}")
    return k // groups


def pack(
    layer: Layer,
    dtype: torch.dtype | None,
    requantize: bool | Mapping[str, Any],
    group: int | None = None,
) -> tuple[PackedWeight | ReorderedWeight, Loss]:
    """The layer's codes in `dtype`; or, where there are none and `requantize` allows it, its values quantized again.

    group: that the codes are to have instead of their own, see `regrouped`.
    """
    try:
        stored = layer.codes()
    except Refused as refused:
        if not requantize:
            raise Error(
                f"{layer.name}: {layer.format}: {refused}. requantize=True quantizes again what its codes stand for, "
                "and says what that costs; better is to quantize the 16-bit model, where there is one"
            ) from None
        return _requantized(layer, dtype or layer.dtype, requantize, str(refused))
    if group is not None:
        stored = regrouped(stored, group)
    return _carried_over(layer, stored, dtype or layer.dtype)


def regrouped(stored: Codes, group: int) -> Codes:
    """In smaller groups, which divide its own; each scale is repeated, and every weight stays as it is."""
    if group == stored.group:
        return stored
    k = stored.codes.shape[1]
    groups = -(-k // group)

    def repeated(values: torch.Tensor) -> torch.Tensor:
        each = values.repeat_interleave(stored.group // group if stored.group else groups, dim=1)
        return each[:, :groups].contiguous()

    offsets = None if stored.offsets is None else repeated(stored.offsets)
    return replace(stored, scales=repeated(stored.scales), group=group, offsets=offsets)


def _carried_over(
    layer: Layer, stored: Codes, dtype: torch.dtype
) -> tuple[PackedWeight | ReorderedWeight, Loss]:
    scales, table = stored.scales.to(dtype), stored.table.to(dtype)
    offsets = None if stored.offsets is None else stored.offsets.to(dtype)
    rounded = replace(
        stored, scales=scales.float(), table=table.float(), offsets=None if offsets is None else offsets.float()
    )
    if not _finite(rounded):
        what = "scales" if offsets is None else "scales or offsets"
        if _finite(stored):
            raise Error(
                f"{layer.name}: {layer.format}: {what} beyond the range of {dtype}; give dtype=torch.bfloat16"
            )
        raise Error(f"{layer.name}: {layer.format}: {what} that are no finite numbers; the checkpoint is damaged")
    packed: PackedWeight | ReorderedWeight
    packed = PackedWeight.from_codes(
        stored.codes, scales, table, stored.group, stored.bits, offsets=offsets, hadamard=stored.hadamard
    )
    if stored.order is not None:
        packed = ReorderedWeight(packed, stored.order)
    if all(torch.equal(ours, theirs) for ours, theirs in zip(_factors(rounded), _factors(stored), strict=True)):
        return packed, Loss(layer.name, layer.format, "exact", _energy(stored))
    cost = _Cost()
    summands = 0.0
    for rows in _slabs(*stored.codes.shape):
        cost.add(dequantized(stored, rows), dequantized(rounded, rows))
        summands += _square(dequantized(_without_signs(stored), rows))
    loss = cost.loss(layer, "rounded" if cost.error else "exact")
    # Of the summands, not of the weights: an offset may nearly cancel a product, and each is rounded by itself.
    if cost.error > _ALLOWED_ERROR[dtype] ** 2 * summands:
        raise Error(
            f"{layer.name}: {layer.format}: scales below the range of {dtype} (they would cost "
            f"{loss.relative_error:.1e}); give dtype=torch.bfloat16"
        )
    return packed, loss


def _factors(stored: Codes) -> list[torch.Tensor]:
    offsets = [] if stored.offsets is None else [stored.offsets]
    return [stored.scales, stored.table, *offsets]


def _finite(stored: Codes) -> bool:
    return all(bool(torch.isfinite(values).all()) for values in _factors(stored))


def _without_signs(stored: Codes) -> Codes:
    offsets = None if stored.offsets is None else stored.offsets.abs()
    return replace(stored, scales=stored.scales.abs(), table=stored.table.abs(), offsets=offsets)


def _requantized(
    layer: Layer, dtype: torch.dtype, requantize: bool | Mapping[str, Any], reason: str
) -> tuple[PackedWeight, Loss]:
    weights = layer.weights()
    given = requantize if isinstance(requantize, Mapping) else {}
    options = {**(REQUANTIZED if "method" in given else layer.requantized), **given}
    try:
        packed = quantize(weights, dtype=dtype, **options)
    except Error as refused:
        raise Error(f"{layer.name}: {layer.format}: {refused}") from refused
    cost = _Cost()
    format = formats.known(packed.format)
    for rows in _slabs(*weights.shape, multiple=32):
        again = dequantize_rows(packed.data, format, rows.start, rows.stop - rows.start, torch.float32)
        cost.add(weights[rows], again)
    return packed, cost.loss(layer, "requantized", reason)


class _Cost:
    """What a matrix loses, added up by slabs of rows."""

    def __init__(self) -> None:
        self.weights = self.error = self.largest = 0.0

    def add(self, stored: torch.Tensor, packed: torch.Tensor) -> None:
        difference = packed - stored
        self.weights += _square(stored)
        self.error += _square(difference)
        self.largest = max(self.largest, float(difference.abs().max()))

    def loss(self, layer: Layer, how: str, note: str = "") -> Loss:
        return Loss(layer.name, layer.format, how, self.weights, self.error, note, self.largest)


def _slabs(n: int, k: int, multiple: int = 1) -> list[slice]:
    rows = max(multiple, _WEIGHTS_AT_ONCE // k // multiple * multiple)
    return [slice(first, min(n, first + rows)) for first in range(0, n, rows)]


def _square(values: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2


def _energy(stored: Codes) -> float:
    return sum(_square(dequantized(stored, rows)) for rows in _slabs(*stored.codes.shape))


def dequantized(stored: Codes, rows: slice = slice(None)) -> torch.Tensor:
    """[rows, k], float32, with the columns in the order of the codes, and transformed as these are."""
    k = stored.codes.shape[1]

    def each(values: torch.Tensor) -> torch.Tensor:
        return values[rows].repeat_interleave(stored.group or k, dim=1)[:, :k]

    weights = each(stored.scales) * stored.values(rows)
    return weights if stored.offsets is None else weights + each(stored.offsets)
