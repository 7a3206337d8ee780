"""Packed bytes from codes, scales, offsets and a table that are there, and back: nothing is quantized or rounded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from lutsmith import formats
from lutsmith._core import Error
from lutsmith._torch import torch

__all__ = ["Parts", "groups_of", "pack", "pack_words", "row_tables", "table_bytes", "table_of", "unpack", "unpack_words"]

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Parts(NamedTuple):
    """What packed bytes are made of, besides the table."""

    codes: torch.Tensor  #: [N, K], uint8
    scales: torch.Tensor  #: [N, groups]
    offsets: torch.Tensor | None  #: [N, groups], or None where the format has none
    tables: torch.Tensor | None = None  #: [N, 2**bits], or None where rows have no tables of their own


def groups_of(k: int, group: int) -> int:
    """Scales of a row of k weights; group 0: one."""
    return -(-k // group) if group else 1


def table_of(table: Sequence[float] | torch.Tensor, bits: int | None) -> tuple[torch.Tensor, int, str]:
    """float32 values on the CPU, the bits of their codes and their kind, "scalar" or "pair".

    bits None: those of a scalar table so long. Raises Error where no table is so long.
    """
    values = torch.as_tensor(table, dtype=torch.float32, device="cpu").flatten().contiguous()
    length = values.numel()
    if bits is None:
        bits = length.bit_length() - 1
        if not 1 <= bits <= 8 or length != 2**bits:
            raise Error(
                f"table: {length} values given; allowed: 2**bits, bits 1 to 8; pairs of values (2 * 4**bits) need bits="
            )
        return values, bits, "scalar"
    if not 1 <= bits <= 8:
        raise Error(f"bits: {bits} is not allowed; allowed: 1 to 8")
    for kind, expected in (("scalar", 2**bits), ("pair", 2 * 4**bits)):
        if length == expected:
            return values, bits, kind
    raise Error(f"table: {length} values given; {bits} bits take {2**bits} (scalar) or {2 * 4**bits} (pair)")


def row_tables(table: Sequence[float] | torch.Tensor, n: int, bits: int | None) -> torch.Tensor | None:
    """Tables of n rows as float32 [n, 2**bits] on the CPU; None where `table` is one table for all rows. Raises Error for
    tables of other rows or lengths."""
    if not isinstance(table, torch.Tensor) or table.dim() != 2:
        return None
    if bits is not None and tuple(table.shape) == (4**bits, 2):
        return None  # pairs of values
    entries = table.shape[1]
    exponent = entries.bit_length() - 1
    if table.shape[0] != n or entries != 2**exponent or not 1 <= exponent <= 8 or bits not in (None, exponent):
        raise Error(
            f"table: {tuple(table.shape)} given; allowed: [{n}, {2**bits if bits else '2**bits'}], a table for each row, or "
            "one dimension: a table for all"
        )
    return table.detach().to(device="cpu", dtype=torch.float32).contiguous()


def table_bytes(values: torch.Tensor) -> bytes:
    """The values as they are in memory: 16-bit words as a format has them, or floats as the quantizer takes them."""
    return bytes(values.contiguous().view(torch.uint8).flatten().tolist())


def pack(
    codes: torch.Tensor,
    scales: torch.Tensor,
    table: Sequence[float] | torch.Tensor,
    group: int,
    bits: int | None,
    offsets: torch.Tensor | None = None,
) -> tuple[torch.Tensor, formats.Format]:
    """Bytes on the device of `codes`, and what they mean; arguments and errors are those of PackedWeight.from_codes."""
    for name, tensor in (("codes", codes), ("scales", scales), ("offsets", offsets)):
        if name == "offsets" and tensor is None:
            continue
        if not isinstance(tensor, torch.Tensor) or tensor.dim() != 2:
            shape = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise Error(f"{name}: {shape} is not allowed; allowed: a tensor of two dimensions")
    if codes.dtype not in _INTEGERS:
        allowed = ", ".join(str(dtype) for dtype in _INTEGERS)
        raise Error(f"codes: {codes.dtype} is not allowed; allowed: {allowed}")
    if scales.dtype not in formats.DTYPE_NAMES:
        allowed = ", ".join(str(dtype) for dtype in formats.DTYPE_NAMES)
        raise Error(f"scales: {scales.dtype} is not allowed; allowed: {allowed}; round them with .to()")
    if offsets is not None and offsets.dtype != scales.dtype:
        raise Error(f"offsets: {offsets.dtype} is not allowed; allowed: {scales.dtype}, as the scales are; use .to()")
    n, k = codes.shape
    dtype = formats.DTYPE_NAMES[scales.dtype]
    tables = row_tables(table, n, bits)
    if tables is not None:
        bits = tables.shape[1].bit_length() - 1
        tables = tables.to(scales.dtype)
        format = formats.Format(bits, group, n, k, dtype, formats.ROW, b"", offsets is not None)
        finite = bool(torch.isfinite(tables).all())
    else:
        values, bits, kind = table_of(table, bits)
        words = table_bytes(values.to(scales.dtype))
        format = formats.Format(bits, group, n, k, dtype, kind, words, offsets is not None)
        finite = all(map(math.isfinite, format.table))
    if not finite:
        raise Error(f"table: values that are not finite in {scales.dtype}; scale the table down and the scales up")
    expected = (n, groups_of(k, group))
    for name, tensor in (("scales", scales), ("offsets", offsets)):
        if tensor is not None and tuple(tensor.shape) != expected:
            raise Error(f"{name}: shape {tuple(tensor.shape)} is not allowed; allowed: {expected}, [N, groups of a row]")
    if codes.dtype != torch.uint8:
        low, high = codes.aminmax()
        if low < 0 or high >= 2**bits:  # of bytes the packer sees to it, naming the place
            raise Error(f"codes: {int(low)} to {int(high)} given; allowed with {bits} bits: 0 to {2**bits - 1}")
    words = Parts(
        codes.cpu().to(torch.uint8),
        scales.cpu().view(torch.int16),
        None if offsets is None else offsets.cpu().view(torch.int16),
        None if tables is None else tables.view(torch.int16),
    )
    return pack_words(words, format).to(codes.device), format


def pack_words(parts: Parts, format: formats.Format) -> torch.Tensor:
    """Of parts on the CPU whose scales and offsets are 16-bit words. Raises Error for codes out of range."""
    codes, scales = parts.codes.contiguous(), parts.scales.contiguous()
    offsets = None if parts.offsets is None else parts.offsets.contiguous()
    data = torch.empty(format.packed_bytes, dtype=torch.uint8, device="cpu")
    tables = None if parts.tables is None else parts.tables.contiguous()
    format.core.pack(codes.data_ptr(), scales.data_ptr(), _address(offsets), _address(tables), data.data_ptr())
    return data


def unpack_words(data: torch.Tensor, format: formats.Format) -> Parts:
    """Its inverse."""
    data = data.cpu()
    codes = torch.empty((format.n, format.k), dtype=torch.uint8, device="cpu")
    scales = torch.empty((format.n, groups_of(format.k, format.group)), dtype=torch.int16, device="cpu")
    offsets = torch.empty_like(scales) if format.offsets else None
    tables = None
    if format.table_kind == formats.ROW:
        tables = torch.empty((format.n, 2**format.bits), dtype=torch.int16, device="cpu")
    format.core.unpack(data.data_ptr(), codes.data_ptr(), scales.data_ptr(), _address(offsets), _address(tables))
    return Parts(codes, scales, offsets, tables)


def _address(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def unpack(data: torch.Tensor, format: formats.Format) -> Parts:
    """Scales and offsets are of the format's type; on the device of `data`."""
    codes, *words = unpack_words(data, format)
    return Parts(
        codes.to(data.device),
        *(None if each is None else each.view(format.dtype).to(data.device) for each in words),
    )
