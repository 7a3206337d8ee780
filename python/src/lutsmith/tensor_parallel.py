"""Parts of packed weights for several GPUs: codes, scales and offsets are carried over, nothing is quantized again.

    column-parallel: each rank has rows of W [N, K]          row-parallel: each rank has columns of W
    and gives a part of y (q, k, v, gate, up)                and takes a part of x; the sum is y (o, down)

         K                                                        K
      +--------+                                               +---+----+
    N | rank 0 |                                             N | 0 | 1  |
      | rank 1 |                                               |   |    |
      +--------+                                               +---+----+

The parts are on the device of the whole. Rows that begin and end at multiples of 32 are copied there; all else is the
CPU's work.
"""

from __future__ import annotations

import math
from typing import NamedTuple, overload

from lutsmith import formats, packed_rows
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.codes import Parts, groups_of
from lutsmith.hadamard import BLOCKS, Hadamard
from lutsmith.operators import matmul
from lutsmith.packed_rows import check_part, pack, unpack
from lutsmith.packed_weight import PackedWeight
from lutsmith.reordered import ReorderedWeight

__all__ = ["ColumnPart", "columns", "even_part", "rows"]

_COLUMNS_MULTIPLE = 8


class ColumnPart(NamedTuple):
    """Columns of a weight.

    Where the first one is inside a group and no smaller group fits, `weight` begins with the group, `front` columns
    before: x needs as many zeros in front. In the same way `back` columns behind the last one fill a multiple of 8.
    """

    weight: PackedWeight
    front: int
    back: int

    def matmul(self, x: torch.Tensor, batch_invariant: bool = False) -> torch.Tensor:
        """x [..., columns of this part] -> [..., N]: this part's share of y. x is copied where there are zeros to add."""
        if self.front or self.back:
            x = torch.nn.functional.pad(x, (self.front, self.back))
        return matmul(x, self.weight, batch_invariant=batch_invariant)


def even_part(size: int, rank: int, ranks: int, multiple: int = 1) -> tuple[int, int]:
    """Where a rank's part of `size` rows or columns begins and ends: multiples of `multiple`, as equal as they can be.

    A multiple of the group keeps the groups of columns whole; one of the size of a head keeps heads whole.
    """
    if not 0 <= rank < ranks or size % multiple:
        raise Error(
            f"rank {rank} of {ranks}, size {size}, multiple {multiple}: not allowed; allowed: a rank from 0 to {ranks - 1}, "
            "and a size that is a multiple of `multiple`"
        )
    units = size // multiple
    return units * rank // ranks * multiple, units * (rank + 1) // ranks * multiple


@overload
def rows(weight: PackedWeight, start: int, stop: int) -> PackedWeight: ...
@overload
def rows(weight: ReorderedWeight, start: int, stop: int) -> ReorderedWeight: ...
def rows(weight, start, stop):  # type: ignore[no-untyped-def]
    """Rows from `start` up to `stop` of W [N, K], any: the part of a rank where a layer is column-parallel.

    Its product is that part of the whole product. It has memory of its own, so that the whole can be given back.
    Reordered columns stay as they are: every rank has the whole of x.
    """
    if isinstance(weight, ReorderedWeight):
        return ReorderedWeight(packed_rows.rows(weight.stored, start, stop), weight.order)
    return packed_rows.rows(weight, start, stop)


def columns(weight: PackedWeight, start: int, stop: int) -> ColumnPart:
    """Columns from `start` up to `stop` of W [N, K], any: the part of a rank where a layer is row-parallel.

    The sum of all parts' products is the product. A part that begins inside a group gets the largest group that fits
    both (K = 576 in groups of 64, cut at 288: groups of 32), with each scale and offset repeated; where none fits, see
    ColumnPart. Weights with a Hadamard transform are cut at multiples of its block, as a part of x is transformed by
    itself. Reordered weights are not cut: the columns of a rank's part of x are spread over all their groups.
    """
    if isinstance(weight, ReorderedWeight):
        raise Error(
            "columns: weights whose columns are stored in another order (act-order) are not allowed, as the columns of "
            "a part of x are spread over all groups; allowed: parts of the order in which they are stored, "
            "columns(weight.stored, start, stop), of which a rank takes x[..., weight.order[start:stop]]"
        )
    check_part("columns", start, stop, weight.k)
    if weight.hadamard is not None:
        _check_blocks(start, stop, weight.hadamard)
    codes, *values, tables = unpack(weight)
    known = formats.known(weight.format)
    pairs = known.table_kind == "pair"
    if known.group == 0:
        group, first = 0, start - start % 2 if pairs else start
    else:
        # Scales and offsets of a smaller group would stand in the middle of a larger one's.
        group = next((g for g in formats.GROUPS if g <= known.group and start % g == 0), known.group)
        first = start - start % group
        times, some = known.group // group, slice(first // group, -(-stop // group))
        values = [each if each is None else each.repeat_interleave(times, dim=1)[:, some] for each in values]
    last = stop + (first - stop) % _COLUMNS_MULTIPLE
    part = torch.zeros((known.n, last - first), dtype=torch.uint8)
    end = min(last, known.k)
    part[:, : end - first] = codes[:, first:end]
    format = known.with_shape(known.n, last - first, group)
    # Padding may be a group of its own.
    needed = groups_of(last - first, group)
    scales, offsets = (
        each if each is None else torch.nn.functional.pad(each, (0, needed - each.shape[1])) for each in values
    )
    return ColumnPart(pack(Parts(part, scales, offsets, tables), format, weight.device), start - first, last - stop)


def _check_blocks(start: int, stop: int, hadamard: Hadamard) -> None:
    if start % hadamard.block == 0 and stop % hadamard.block == 0:
        return
    common = math.gcd(start, stop)
    smaller = max((block for block in BLOCKS if common % block == 0), default=0)
    advice = f"quantize with hadamard={smaller}" + (", in smaller blocks" if smaller else ", without a transform")
    raise Error(
        f"columns: {start} to {stop} is not allowed; allowed: multiples of {hadamard.block}, the block of the "
        f"weights' Hadamard transform; {advice}"
    )
