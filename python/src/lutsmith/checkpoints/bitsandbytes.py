"""4-bit weights of bitsandbytes, nf4 and fp4, as transformers saves them.

    M.weight                            uint8 [N * K / 2, 1]: the codes of W [N, K] in one row, the first in a high half
    M.weight.absmax                     float32: one scale for each block of that row; nested: uint8, codes themselves
    M.weight.quant_map                  float32 [16]: the table
    M.weight.nested_absmax, .nested_quant_map       scales and table of the scales
    M.weight.quant_state.bitsandbytes__nf4          JSON: shape, blocksize, dtype, and nested_blocksize, nested_offset

Blocks run over the rows one after the other. Where K is no multiple of the block a block ends one row and begins the
next; a kernel's smaller group, of which each lies in one block, then repeats the block's scale.
"""

from __future__ import annotations

import json
import math

from lutsmith import formats
from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.checkpoints import bits as packed_bits
from lutsmith.checkpoints.layers import Codes, Layer, Planned, Refused
from lutsmith.checkpoints.tensors import Tensors

__all__ = ["BitsAndBytes", "find"]

_STATE = ".quant_state.bitsandbytes__"
_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}

# The values of fp4 are multiples of 1/192, which no 16-bit type holds: thirds. Times 3/4 all of them are multiples of
# 1/256, and the scales take 4/3.
_FP4 = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)
_FP4_TABLE = tuple(sign * value / 16 for sign in (1, -1) for value in _FP4)
_FP4_SCALE = 4 / 3


def find(tensors: Tensors) -> dict[str, list[str]]:
    """{weight: the tensors that belong to it}"""
    found: dict[str, list[str]] = {}
    for name in tensors:
        if name.endswith(".absmax"):
            weight = name.removesuffix(".absmax")
            found[weight] = [other for other in tensors if other == weight or other.startswith(weight + ".")]
    return found


class BitsAndBytes(Layer):
    def __init__(self, tensors: Tensors, weight: str, members: list[str]) -> None:
        states = [name for name in members if name.startswith(weight + _STATE)]
        if len(states) != 1:
            raise Error(
                f"{weight}: bitsandbytes: the tensor {weight}{_STATE}nf4 is missing, and with it the weight's shape; "
                "save the model with transformers 4.37 or later"
            )
        kind = states[0].removeprefix(weight + _STATE)
        try:
            state = json.loads(bytes(tensors[states[0]].tolist()))
            self._n, self._k = (int(size) for size in state["shape"])
            self._block = int(state["blocksize"])
            dtype = _DTYPES.get(state["dtype"], torch.float16)
            nested = {key: state[key] for key in ("nested_blocksize", "nested_offset") if key in state}
        except (ValueError, KeyError, TypeError) as wrong:
            raise Error(f"{weight}: bitsandbytes: {states[0]} cannot be read: {wrong}") from wrong
        super().__init__(weight, f"bitsandbytes {kind}{' nested' if nested else ''}", dtype)
        self._tensors, self._kind, self._nested = tensors, kind, nested

    def _flat_codes(self) -> torch.Tensor:
        codes = packed_bits.nibbles(self._tensors[self.name].flatten(), high_first=True)
        if codes.numel() < self._n * self._k:
            raise Error(f"{self.name}: {codes.numel()} codes are stored, of [{self._n}, {self._k}]")
        return codes[: self._n * self._k]

    def _absmax(self) -> torch.Tensor:
        """float32, one for each block; by the library's own operations in its own order."""
        absmax = self._tensors[f"{self.name}.absmax"]
        if not self._nested:
            return absmax.float()
        outer = self._tensors[f"{self.name}.nested_absmax"].float()
        values = self._tensors[f"{self.name}.nested_quant_map"].float()[absmax.long()]
        each = outer.repeat_interleave(int(self._nested["nested_blocksize"]))[: values.numel()]
        return values * each + torch.tensor(self._nested["nested_offset"], dtype=torch.float32)

    def planned(self) -> Planned:
        group = next((size for size in formats.GROUPS if self._block % size == 0 and self._k % size == 0), None)
        if group is None:
            raise Refused(
                f"blocks of {self._block} run on from row to row of {self._k} weights, which is no multiple of 32"
            )
        return Planned(4, group)

    def codes(self) -> Codes:
        group = self.planned().group
        starts = torch.arange(0, self._n * self._k, group) // self._block
        scales = self._absmax()[starts].reshape(self._n, -1)
        table = self._tensors[f"{self.name}.quant_map"].float()
        if self._kind == "fp4" and torch.allclose(table, torch.tensor(_FP4_TABLE) * _FP4_SCALE, rtol=1e-5, atol=1e-6):
            table = torch.tensor(_FP4_TABLE, dtype=torch.float32)
            scales = (scales.double() * _FP4_SCALE).float()
        return Codes(self._flat_codes().reshape(self._n, self._k), scales, table, group)

    def weights(self) -> torch.Tensor:
        table = self._tensors[f"{self.name}.quant_map"].float()
        values = table[self._flat_codes().long()]
        blocks = math.ceil(values.numel() / self._block)
        each = self._absmax()[:blocks].repeat_interleave(self._block)[: values.numel()]
        return (values * each).reshape(self._n, self._k)
