"""Tensors of GGUF files (llama.cpp), read by the package gguf.

Types of 4 bits or fewer with one scale for 32 weights or more are carried over; weight = d * value[code] + m:

    Q4_0      d float16, code - 8                         TQ2_0    d float16 of 256, code - 1 (2 bits)
    IQ4_NL    d float16, a table of 16 integers           MXFP4    d a power of two, e2m1
    Q4_1      d and m float16, code
    IQ4_XS    the table of IQ4_NL, d float16 of 256 times six bits of 32: a product that is rounded to 16 bits
    Q4_K      code, d and -m such products

Of Q4_K the table is code - 8 and the offset m + 8 d: it is small, as minima are about -8 d, and loses less by rounding.

All others are what their values are, by the package's own dequantization.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.checkpoints.fp4 import E2M1, powers_of_two
from lutsmith.checkpoints.layers import Codes, Layer, Planned, Refused

__all__ = ["Gguf", "GgufLayer", "files"]

_PLAIN = ("F32", "F16", "BF16", "F64")
_WHOLE = ("I8", "I16", "I32", "I64")
_UNSIGNED = torch.arange(16, dtype=torch.float32)
_INTEGERS = _UNSIGNED - 8
_IQ4 = torch.tensor([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=torch.float32)
_TERNARY = torch.arange(4, dtype=torch.float32) - 1

_WHY_NOT = {
    "Q5_1": "5 bits",
    "Q5_0": "5 bits",
    "Q8_0": "8 bits",
    "Q2_K": "a scale for each 16 weights",
    "Q3_K": "a scale for each 16 weights",
    "Q5_K": "5 bits",
    "Q6_K": "6 bits, and a scale for each 16 weights",
    "NVFP4": "a scale for each 16 weights",
}


def files(path: Path) -> list[Path]:
    """The GGUF files of one model at `path`: [] where it is something else. Raises Error where there are several."""
    if not path.is_dir():
        return [path] if path.suffix == ".gguf" else []
    found = sorted(path.glob("*.gguf"))
    models = {file.name.rsplit("-of-", 1)[0].rsplit("-", 1)[0] if "-of-" in file.name else file.name for file in found}
    if len(models) > 1:
        raise Error(f"{path}: has several GGUF models ({', '.join(sorted(models))}); give the file of one")
    return found


class Gguf:
    """The tensors of the files of one model."""

    def __init__(self, paths: list[Path]) -> None:
        """Raises Error where the package gguf is missing, and for files that it cannot read."""
        try:
            import gguf
            import numpy  # noqa: F401  of which torch takes the tensors
        except ImportError as missing:
            raise Error(f"{paths[0]}: GGUF files are read by a package that is missing: pip install gguf") from missing
        self._gguf: Any = gguf
        self._tensors: dict[str, Any] = {}
        self.readers = []
        for path in paths:
            try:
                reader = gguf.GGUFReader(path)
            except (OSError, ValueError, IndexError, KeyError, AssertionError) as wrong:
                raise Error(f"{path}: is no intact GGUF file: {wrong}") from wrong
            self.readers.append(reader)
            self._tensors.update({tensor.name: tensor for tensor in reader.tensors})

    def __iter__(self) -> Any:
        return iter(self._tensors)

    def architecture(self) -> str:
        field = self.readers[0].fields.get("general.architecture")
        if field is None:
            raise Error("GGUF: the file does not say which model it is of (general.architecture)")
        return str(field.contents())

    def shape(self, name: str) -> tuple[int, ...]:
        """Outermost first, as torch has it; the file has it the other way round."""
        return tuple(int(length) for length in reversed(self._tensors[name].shape))

    def type(self, name: str) -> str:
        return str(self._tensors[name].tensor_type.name)

    def is_plain(self, name: str) -> bool:
        return self.type(name) in (*_PLAIN, *_WHOLE)

    def tensor(self, name: str) -> torch.Tensor:
        """Of a tensor that is not quantized, as it is stored."""
        data = self._tensors[name].data
        if self.type(name) == "BF16":
            return torch.from_numpy(data.copy()).view(torch.bfloat16).reshape(self.shape(name))
        return torch.from_numpy(data.copy()).reshape(self.shape(name))

    def layers(self, name: str) -> list[GgufLayer]:
        """Of a tensor that is quantized: itself, or the matrices of a stack, NAME.0, NAME.1, ..."""
        shape = self.shape(name)
        if len(shape) == 3:
            return [GgufLayer(self, name, f"{name}.{i}", i) for i in range(shape[0])]
        if len(shape) != 2:
            raise Error(f"{name}: GGUF {self.type(name)}: shape {list(shape)} is neither a matrix nor a stack of them")
        return [GgufLayer(self, name, name, None)]

    def blocks(self, name: str, part: int | None) -> tuple[torch.Tensor, int, int]:
        """Bytes [n, blocks of a row, bytes of a block], and n and k."""
        tensor = self._tensors[name]
        n, k = self.shape(name)[-2:]
        weights, size = self._gguf.GGML_QUANT_SIZES[tensor.tensor_type]
        data = tensor.data if part is None else tensor.data[part]
        return torch.from_numpy(data.copy()).reshape(n, k // weights, size), n, k

    def dequantized(self, name: str, part: int | None) -> torch.Tensor:
        tensor = self._tensors[name]
        data = tensor.data if part is None else tensor.data[part]
        try:
            values = self._gguf.dequantize(data, tensor.tensor_type)
        except NotImplementedError as missing:
            raise Error(f"{name}: GGUF {self.type(name)}: the package gguf cannot dequantize it") from missing
        return torch.from_numpy(values).float().reshape(self.shape(name)[-2:])


class GgufLayer(Layer):
    def __init__(self, gguf: Gguf, tensor: str, name: str, part: int | None) -> None:
        self.type = gguf.type(tensor)
        super().__init__(name, f"GGUF {self.type}", torch.bfloat16 if self.type == "MXFP4" else torch.float16)
        self._gguf, self._tensor, self._part = gguf, tensor, part

    def planned(self) -> Planned:
        if self.type not in _CARRIED_OVER:
            raise Refused(_WHY_NOT.get(self.type, "no scalar table of 1 to 4 bits"))
        return _CARRIED_OVER[self.type][0]

    def codes(self) -> Codes:
        group = self.planned().group
        blocks, n, k = self._gguf.blocks(self._tensor, self._part)
        codes, scales, table, offsets = _CARRIED_OVER[self.type][1](blocks, self.name)
        offsets = None if offsets is None else offsets.reshape(n, -1).contiguous()
        return Codes(codes.reshape(n, k), scales.reshape(n, -1).contiguous(), table, group, offsets)

    def weights(self) -> torch.Tensor:
        return self._gguf.dequantized(self._tensor, self._part)


class _Parts(NamedTuple):
    codes: torch.Tensor
    scales: torch.Tensor
    table: torch.Tensor
    offsets: torch.Tensor | None = None


def _half(data: torch.Tensor) -> torch.Tensor:
    """[..., 2] bytes -> [...], float32."""
    return data.contiguous().view(torch.float16).squeeze(-1).float()


def _halves_apart(data: torch.Tensor) -> torch.Tensor:
    """[..., bytes] -> [..., 2 * bytes] codes: the low halves, then the high ones."""
    return torch.cat([data & 15, data >> 4], dim=-1)


def _q4_0(blocks: torch.Tensor, name: str) -> _Parts:
    return _Parts(_halves_apart(blocks[..., 2:]), _half(blocks[..., :2]), _INTEGERS)


def _q4_1(blocks: torch.Tensor, name: str) -> _Parts:
    return _Parts(_halves_apart(blocks[..., 4:]), _half(blocks[..., :2]), _UNSIGNED, _half(blocks[..., 2:4]))


def _q4_k(blocks: torch.Tensor, name: str) -> _Parts:
    # d and d of the minima, 12 bytes of factors, 4 x 32 bytes of codes: 32 in low halves, the next 32 in high ones.
    # Of eight factors the first four are six bits of a byte; of the others four bits stand in the last four bytes, and
    # two above the first.
    packed = blocks[..., 4:16].int()
    first, second, last = packed[..., :4], packed[..., 4:8], packed[..., 8:]
    scales = torch.cat([first & 63, last & 15 | first >> 6 << 4], dim=-1)
    minima = torch.cat([second & 63, last >> 4 | second >> 6 << 4], dim=-1)
    scales = _half(blocks[..., :2]).unsqueeze(-1) * scales
    minima = _half(blocks[..., 2:4]).unsqueeze(-1) * minima
    return _Parts(_halves_apart(blocks[..., 16:].unflatten(-1, (4, 32))), scales, _INTEGERS, 8 * scales - minima)


def _iq4_nl(blocks: torch.Tensor, name: str) -> _Parts:
    return _Parts(_halves_apart(blocks[..., 2:]), _half(blocks[..., :2]), _IQ4)


def _iq4_xs(blocks: torch.Tensor, name: str) -> _Parts:
    # d, 8 x 2 high bits of scales, 8 x 4 low bits, 8 x 16 bytes of codes
    high = blocks[..., 2:4].contiguous().view(torch.int16).int()
    high = torch.cat([high >> 2 * i & 3 for i in range(8)], dim=-1)
    low = blocks[..., 4:8]
    low = torch.stack([low & 15, low >> 4], dim=-1).flatten(-2).int()
    scales = _half(blocks[..., :2]).unsqueeze(-1) * ((low | high << 4) - 32)
    return _Parts(_halves_apart(blocks[..., 8:].unflatten(-1, (8, 16))), scales, _IQ4)


def _tq2_0(blocks: torch.Tensor, name: str) -> _Parts:
    data = blocks[..., :64].unflatten(-1, (2, 32))
    codes = torch.stack([data >> shift & 3 for shift in (0, 2, 4, 6)], dim=-2)
    return _Parts(codes, _half(blocks[..., 64:]), _TERNARY)


def _mxfp4(blocks: torch.Tensor, name: str) -> _Parts:
    return _Parts(_halves_apart(blocks[..., 1:]), powers_of_two(blocks[..., 0], name), torch.tensor(E2M1))


# What becomes of blocks, and how they are read.
_CARRIED_OVER: dict[str, tuple[Planned, Callable[[torch.Tensor, str], _Parts]]] = {
    "Q4_0": (Planned(4, 32), _q4_0),
    "Q4_1": (Planned(4, 32, offsets=True), _q4_1),
    "Q4_K": (Planned(4, 32, offsets=True), _q4_k),
    "IQ4_NL": (Planned(4, 32), _iq4_nl),
    "IQ4_XS": (Planned(4, 32), _iq4_xs),
    "TQ2_0": (Planned(2, 256), _tq2_0),
    "MXFP4": (Planned(4, 32), _mxfp4),
}
