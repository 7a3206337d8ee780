"""FLUTE and, of transformers, HIGGS, which multiplies by FLUTE's kernels: codes in the order of a tuned kernel's tiles.

    M.weight    int16 [N * bits / 16, K]      M.tables    [2**bits]
    M.scales    [N, K / group]                M.tables2   [2**bits, 2**bits, 2], or half as many numbers of 32 bits

Two words that are neighbours along K are one of 32 bits, for two columns, k even and k + 1, of 4, 8 or 16 rows that lie
a tile apart: 32 or 64, by the kernel. A field of it has the code of k + 1 in its lower half, that of k in its upper:

    4 bits     31        23        15         7       0        word t of chunk c, of 4 tiles: field a, the lowest
               |  row 3  |  row 2  |  row 1  |  row 0 |        one 0, has the codes of row (4 c + a) tile + t
               +---------+---------+---------+--------+
    2 bits     the same with eight fields, and chunks of 8 tiles

    3 bits     31 30     24        18        12         6       0
               |15| row q+12 | row q+9 | row q+6 | row q+3 | row q |     q = 0, 1, 2: three words for 16 tiles of 32.
               +--+----------+---------+---------+---------+-------+     Row 15 has the two highest bits of each.

    The words q = 0 of all chunks come first; behind them, chunk by chunk, those of q = 1 and q = 2.

`tables2` has the values of two codes, [that of k, that of k + 1]: the bits of two numbers of the scales' type, whatever
type they are stored as. For FLUTE and for HIGGS with p = 1 these are pairs of `tables`' values; with p = 2 they are a
grid, and `tables` has the numbers 0, 1, 2, ... The rows of HIGGS went through a Hadamard transform without signs.

FLUTE: Guo, Brandon, Cholakov, Ragan-Kelley, Xing and Kim, Fast Matrix Multiplications for Lookup Table-Quantized LLMs,
2024. HIGGS: see lutsmith/higgs.py.
"""

from __future__ import annotations

import re
from typing import Any

from lutsmith import formats, hadamard
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.checkpoints.layers import Codes, Layer, Planned, Refused, dequantized
from lutsmith.checkpoints.tensors import Tensors
from lutsmith.hadamard import NO_SIGNS, Hadamard

__all__ = ["Flute", "find", "unpacked"]

_MEMBERS = (".weight", ".scales", ".tables", ".tables2")
_BITS = (2, 3, 4)
_TYPES = {"F16": torch.float16, "BF16": torch.bfloat16}
_SMALL, _LARGE = 32, 64  # rows of a tile
# Kernels are numbered alike in all releases up to 0.4.2: in each third of the numbers the first third has large tiles.
_KERNELS = {2: 36, 4: 144}
# Before it packing asked a list that has kernels with small tiles alone.
_TUNED_SINCE = (0, 3)


def find(tensors: Tensors) -> dict[str, list[str]]:
    """{module: the tensors that belong to it}"""
    modules = [name.removesuffix(".tables2") for name in tensors if name.endswith(".tables2")]
    return {
        module: [module + member for member in _MEMBERS]
        for module in modules
        if all(module + member in tensors for member in _MEMBERS) and tensors.type(f"{module}.weight") == "I16"
    }


def unpacked(words: torch.Tensor, bits: int, tile: int) -> torch.Tensor:
    """words int16 [N * bits / 16, K] -> codes [N, K], uint8, of kernels whose tiles have so many rows."""
    pairs = words.contiguous().view(torch.int32)
    columns = pairs.shape[1]
    if bits == 3:
        first, others = pairs.split([pairs.shape[0] // 3, pairs.shape[0] // 3 * 2])
        planes = torch.cat([first.reshape(-1, 1, tile, columns), others.reshape(-1, 2, tile, columns)], dim=1)
        fields = [planes[:, row % 3] >> row // 3 * 6 & 63 for row in range(15)]
        rest = planes >> 30 & 3
        fields.append(rest[:, 0] | rest[:, 1] << 2 | rest[:, 2] << 4)
    else:
        chunks = pairs.reshape(-1, tile, columns)
        fields = [chunks >> shift & (4**bits - 1) for shift in range(0, 32, 2 * bits)]
    together = torch.stack(fields, dim=1).to(torch.uint8)  # [chunks, rows of a word, tile, columns]
    codes = torch.stack([together >> bits, together & (2**bits - 1)], dim=-1)
    return codes.reshape(-1, 2 * columns)


class Flute(Layer):
    def __init__(self, tensors: Tensors, module: str, config: dict[str, Any]) -> None:
        shapes = [tuple(tensors.shape(module + member)) for member in _MEMBERS]
        words, scales, entries, _ = shapes
        self.bits = entries[0].bit_length() - 1 if len(entries) == 1 else 0
        if (
            self.bits not in _BITS
            or entries[0] != 2**self.bits
            or (len(words), len(scales)) != (2, 2)
            or words[0] * 16 != scales[0] * self.bits
            or scales[1] == 0
            or words[1] % scales[1]
            or words[1] % 2
        ):
            listed = ", ".join(f"{member[1:]} {list(shape)}" for member, shape in zip(_MEMBERS, shapes, strict=True))
            raise Error(f"{module}: FLUTE: shapes that do not fit: {listed}")
        self._k = words[1]
        self._group = words[1] // scales[1]
        self._hadamard = _transform(config, module)
        if self._hadamard is not None and self._k % self._hadamard.block:
            raise Error(f"{module}: HIGGS: {self._k} columns are no multiple of hadamard_size {self._hadamard.block}")
        kind = tensors.type(f"{module}.scales")
        if kind not in _TYPES:
            raise Error(f"{module}: FLUTE: scales of type {kind} cannot be read; allowed: {', '.join(_TYPES)}")
        self._tile = _tile(config, module, self.bits, scales[0])
        name = "FLUTE" if self._hadamard is None else "HIGGS"
        super().__init__(f"{module}.weight", f"{name} {self.bits} bits", _TYPES[kind])
        self._tensors, self._module = tensors, module

    def planned(self) -> Planned:
        if self._group not in formats.GROUPS and self._group != self._k:
            raise Refused(f"a scale for each {self._group} weights, where kernels have 32, 64, 128, 256 or one a row")
        if self._hadamard is not None and self._hadamard.block not in hadamard.BLOCKS:
            raise Refused(
                f"a Hadamard transform of {self._hadamard.block} columns, where x is transformed in blocks of "
                f"{hadamard.BLOCKS[0]} to {hadamard.LARGEST_BLOCK}"
            )
        return Planned(self.bits, 0 if self._group == self._k else self._group)

    def codes(self) -> Codes:
        return self._stored(self.planned().group)

    def weights(self) -> torch.Tensor:
        weights = dequantized(self._stored(self._group))
        return weights if self._hadamard is None else hadamard.inverse(weights, self._hadamard)

    def _stored(self, group: int) -> Codes:
        codes = unpacked(self._tensors[f"{self._module}.weight"], self.bits, self._tile)
        scales = self._tensors[f"{self._module}.scales"].float()
        return Codes(codes, scales, self._table(), group, hadamard=self._hadamard)

    def _table(self) -> torch.Tensor:
        scalar = self._tensors[f"{self._module}.tables"].to(self.dtype)
        stored = self._tensors[f"{self._module}.tables2"]
        entries = scalar.numel()
        if stored.nbytes != 4 * entries**2:
            raise Error(f"{self._module}.tables2: {stored.nbytes} bytes are no {entries**2} pairs of 16-bit numbers")
        pairs = stored.contiguous().flatten().view(self.dtype).reshape(entries, entries, 2)
        expected = torch.stack(torch.meshgrid(scalar, scalar, indexing="ij"), dim=-1)
        if torch.equal(pairs, expected):
            return scalar.float()
        if torch.equal(scalar, torch.arange(entries).to(self.dtype)):
            return pairs.float().transpose(0, 1).reshape(-1, 2)
        # A library that loads 16-bit models rounds what it takes for numbers of 32 bits.
        rounded = expected.contiguous().view(torch.float32).to(self.dtype).float()
        if stored.dtype == torch.float32 and torch.equal(stored.flatten(), rounded.flatten()):
            return scalar.float()
        raise Error(
            f"{self._module}: FLUTE: tables2 has neither pairs of the values of tables nor a grid; the checkpoint is "
            "damaged"
        )


def _transform(config: dict[str, Any], module: str) -> Hadamard | None:
    """Raises Error where no configuration says whether there is one: no tensor does."""
    if config.get("quant_method") == "flute" or "num_bits" in config:
        return None
    size = config.get("hadamard_size")
    if config.get("quant_method") == "higgs" and isinstance(size, int) and size > 0 and size & (size - 1) == 0:
        return Hadamard(size, NO_SIGNS)
    raise Error(
        f"{module}: FLUTE or HIGGS: no config.json beside the file names its quant_method, 'flute' or 'higgs' with a "
        "hadamard_size that is a power of two, and no flute_config.json is there; give the folder with its "
        "configuration"
    )


def _tile(config: dict[str, Any], module: str, bits: int, n: int) -> int:
    """Rows of a tile of the kernel that the codes were packed for. Raises Error where nothing tells it."""
    rows = 16 // bits if bits != 3 else 16
    if n % (rows * _SMALL):
        raise Error(f"{module}: FLUTE: {n} rows are no multiple of {rows * _SMALL}; the checkpoint is damaged")
    if bits == 3 or n % (rows * _LARGE):
        return _SMALL
    metadata = config.get("tune_metadata")
    tuned = metadata.get(module) if isinstance(metadata, dict) else None
    kernel = tuned.get("template_id") if isinstance(tuned, dict) else None
    if isinstance(kernel, int) and 0 <= kernel < _KERNELS[bits]:
        third = _KERNELS[bits] // 3
        return _LARGE if kernel % third < third // 3 else _SMALL
    if kernel is None and (_older(config.get("version")) or "num_sms_packed" in config):
        return _SMALL
    what = "no kernel" if kernel is None else f"kernel {kernel!r}, which is not known"
    raise Error(
        f"{module}: FLUTE: codes lie in the order of the kernel that they were packed for, and the configuration names "
        f"{what}; allowed: tune_metadata with the template_id of each layer, as transformers saves HIGGS, or a "
        "flute_config.json of a version before 0.3. Otherwise quantize the 16-bit model"
    )


def _older(version: Any) -> bool:
    """Than FLUTE 0.3."""
    found = re.match(r"(\d+)\.(\d+)", version) if isinstance(version, str) else None
    return found is not None and tuple(int(number) for number in found.groups()) < _TUNED_SINCE
