"""Four-bit floats, e2m1: MXFP4 (a power of two for each 32) and NVFP4 (an e4m3 for each 16, and one for all).

    MXFP4, as GPT-OSS has it     M_blocks uint8 [..., N, K / 32, 16], M_scales uint8 [..., N, K / 32]: 127 + exponent
    MXFP4, compressed-tensors    M.weight_packed uint8 [N, K / 2], M.weight_scale uint8 [N, K / 32]
    NVFP4, compressed-tensors    M.weight_packed, M.weight_scale F8_E4M3 [N, K / 16], M.weight_global_scale: a divisor
    NVFP4, ModelOpt              M.weight uint8 [N, K / 2], M.weight_scale F8_E4M3, M.weight_scale_2: a factor

The first of two codes is in the low half of a byte.
"""

from __future__ import annotations

from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.checkpoints import bits as packed_bits
from lutsmith.checkpoints.layers import Codes, Layer, Planned, Refused, dequantized
from lutsmith.checkpoints.tensors import Tensors

__all__ = ["E2M1", "Mxfp4", "Nvfp4", "powers_of_two", "stacks"]

E2M1 = tuple(sign * value for sign in (1.0, -1.0) for value in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0))
_MX_GROUP = 32
_NV_GROUP = 16
_NO_NUMBER = 255
_SIXTEEN = f"a scale for each {_NV_GROUP} weights, where kernels have 32, 64, 128, 256 or one a row"


def powers_of_two(exponents: torch.Tensor, name: str) -> torch.Tensor:
    """E8M0 -> float32, which holds all of them. Raises Error for its not-a-number."""
    if bool((exponents == _NO_NUMBER).any()):
        raise Error(f"{name}: MXFP4: a scale that is no number; the checkpoint is damaged")
    return torch.pow(2.0, exponents.double() - 127).float()


def stacks(tensors: Tensors) -> dict[str, list[str]]:
    """{name without the ending: the tensors that belong to it}"""
    names = [name.removesuffix("_blocks") for name in tensors if name.endswith("_blocks")]
    return {name: [f"{name}_blocks", f"{name}_scales"] for name in names if f"{name}_scales" in tensors}


class Mxfp4(Layer):
    """One matrix, of a stack too."""

    def __init__(self, tensors: Tensors, name: str, blocks: str, scales: str, expert: int | None = None) -> None:
        super().__init__(name, "MXFP4", torch.bfloat16)
        self._tensors, self._blocks, self._scales, self._expert = tensors, blocks, scales, expert

    def _part(self, name: str) -> torch.Tensor:
        tensor = self._tensors[name]
        return tensor if self._expert is None else tensor[self._expert]

    def planned(self) -> Planned:
        return Planned(4, _MX_GROUP)

    def codes(self) -> Codes:
        data, exponents = self._part(self._blocks), self._part(self._scales)
        if data.dtype != torch.uint8 or exponents.dtype != torch.uint8:
            raise Error(f"{self.name}: MXFP4: blocks and scales that are no bytes cannot be read")
        codes = packed_bits.nibbles(data).reshape(data.shape[0], -1)
        if codes.shape != (exponents.shape[0], exponents.shape[1] * _MX_GROUP):
            raise Error(f"{self.name}: MXFP4: codes {list(codes.shape)} and scales {list(exponents.shape)} do not fit")
        return Codes(codes, powers_of_two(exponents, self.name), torch.tensor(E2M1), _MX_GROUP)

    def weights(self) -> torch.Tensor:
        return dequantized(self.codes())


class Nvfp4(Layer):
    """Two scales for each 32 weights of a kernel's group. One in their place, searched for, with the same table loses
    less than other tables do: 5.9 % of the norm of normal weights, where NF4 in groups of 64 loses 8.9 %."""

    requantized = {"method": "fp", "bits": 4, "group": _MX_GROUP, "scales": "mse"}

    def __init__(self, tensors: Tensors, name: str, packed: str, scales: str, whole: str, divides: bool) -> None:
        super().__init__(name, "NVFP4", torch.bfloat16)
        self._tensors, self._packed, self._scales, self._whole, self._divides = tensors, packed, scales, whole, divides

    def planned(self) -> Planned:
        raise Refused(_SIXTEEN)

    def codes(self) -> Codes:
        raise Refused(_SIXTEEN)

    def weights(self) -> torch.Tensor:
        whole = self._tensors[self._whole].float()
        scales = self._tensors[self._scales].float()
        scales = scales / whole if self._divides else scales * whole
        return dequantized(
            Codes(packed_bits.nibbles(self._tensors[self._packed]), scales, torch.tensor(E2M1), _NV_GROUP)
        )
