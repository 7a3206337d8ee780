"""Packed bytes from codes, scales and a table that are there already, and back: nothing is quantized or rounded."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lutsmith import formats
from lutsmith._core import Error
from lutsmith._torch import torch

__all__ = ["groups_of", "pack", "pack_words", "table_bytes", "table_of", "unpack", "unpack_words"]

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


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


def table_bytes(values: torch.Tensor) -> bytes:
    """The values as they are in memory: 16-bit words as a format has them, or floats as the quantizer takes them."""
    return bytes(values.contiguous().view(torch.uint8).tolist())


def pack(
    codes: torch.Tensor, scales: torch.Tensor, table: Sequence[float] | torch.Tensor, group: int, bits: int | None
) -> tuple[torch.Tensor, formats.Format]:
    """Bytes on the device of `codes`, and what they mean; arguments and errors are those of PackedWeight.from_codes."""
    for name, tensor in (("codes", codes), ("scales", scales)):
        if not isinstance(tensor, torch.Tensor) or tensor.dim() != 2:
            shape = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise Error(f"{name}: {shape} is not allowed; allowed: a tensor of two dimensions")
    if codes.dtype not in _INTEGERS:
        allowed = ", ".join(str(dtype) for dtype in _INTEGERS)
        raise Error(f"codes: {codes.dtype} is not allowed; allowed: {allowed}")
    if scales.dtype not in formats.DTYPE_NAMES:
        allowed = ", ".join(str(dtype) for dtype in formats.DTYPE_NAMES)
        raise Error(f"scales: {scales.dtype} is not allowed; allowed: {allowed}; round them with .to()")
    values, bits, kind = table_of(table, bits)
    n, k = codes.shape
    words = table_bytes(values.to(scales.dtype))
    format = formats.Format(bits, group, n, k, formats.DTYPE_NAMES[scales.dtype], kind, words)
    if not all(map(math.isfinite, format.table)):
        raise Error(f"table: values that are not finite in {scales.dtype}; scale the table down and the scales up")
    expected = (n, groups_of(k, group))
    if tuple(scales.shape) != expected:
        raise Error(f"scales: shape {tuple(scales.shape)} is not allowed; allowed: {expected}, [N, groups of a row]")
    if codes.dtype != torch.uint8:
        low, high = codes.aminmax()
        if low < 0 or high >= 2**bits:  # of bytes the packer sees to it, naming the place
            raise Error(f"codes: {int(low)} to {int(high)} given; allowed with {bits} bits: 0 to {2**bits - 1}")
    return pack_words(codes.cpu().to(torch.uint8), scales.cpu().view(torch.int16), format).to(codes.device), format


def pack_words(codes: torch.Tensor, scales: torch.Tensor, format: formats.Format) -> torch.Tensor:
    """Codes [N, K], uint8, and scales [N, groups], 16-bit words, on the CPU. Raises Error for codes out of range."""
    codes, scales = codes.contiguous(), scales.contiguous()
    data = torch.empty(format.packed_bytes, dtype=torch.uint8, device="cpu")
    format.core.pack(codes.data_ptr(), scales.data_ptr(), data.data_ptr())
    return data


def unpack_words(data: torch.Tensor, format: formats.Format) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [N, K], uint8, and scales [N, groups], 16-bit words, on the CPU."""
    data = data.cpu()
    codes = torch.empty((format.n, format.k), dtype=torch.uint8, device="cpu")
    scales = torch.empty((format.n, groups_of(format.k, format.group)), dtype=torch.int16, device="cpu")
    format.core.unpack(data.data_ptr(), codes.data_ptr(), scales.data_ptr())
    return codes, scales


def unpack(data: torch.Tensor, format: formats.Format) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [N, K], uint8, and scales [N, groups], of the format's type, on the device of `data`."""
    codes, scales = unpack_words(data, format)
    return codes.to(data.device), scales.view(format.dtype).to(data.device)
