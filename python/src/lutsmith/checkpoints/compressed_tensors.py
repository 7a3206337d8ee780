"""Integers of compressed-tensors, format pack-quantized (llm-compressor).

    M.weight_packed       int32 [N, K * bits / 32], packed along K; code = integer + 2^(bits - 1)
    M.weight_scale        [N, groups], [N, 1] or [1]
    M.weight_shape        [2]: N and K
    M.weight_zero_point   asymmetric: int32 [N * bits / 32, groups], packed along N
    M.weight_g_idx        act-order: the group of each column

Its fp4 formats have `weight_packed` of bytes: fp4.py.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.checkpoints import bits as packed_bits
from lutsmith.checkpoints import fp4
from lutsmith.checkpoints.layers import MOST_BITS, Codes, Layer, Planned, Refused, aligned_groups, group_size
from lutsmith.checkpoints.tensors import Tensors
from lutsmith.checkpoints.zero_points import differ, with_zeros

__all__ = ["PackQuantized", "find", "layer"]

_MEMBERS = tuple(
    f".{name}"
    for name in (
        "weight_packed",
        "weight_scale",
        "weight_shape",
        "weight_zero_point",
        "weight_g_idx",
        "weight_global_scale",
        "input_global_scale",
    )
)


def find(tensors: Tensors) -> dict[str, list[str]]:
    """{module: the tensors that belong to it}"""
    modules = [name.removesuffix(".weight_packed") for name in tensors if name.endswith(".weight_packed")]
    return {module: [module + member for member in _MEMBERS if module + member in tensors] for module in modules}


def layer(tensors: Tensors, module: str, config: dict[str, Any]) -> Layer:
    """By the type of weight_packed. Raises Error where it is none that is known."""
    packed, scale = f"{module}.weight_packed", f"{module}.weight_scale"
    if tensors.type(packed) == "I32":
        return PackQuantized(tensors, module, _declared(config))
    if tensors.type(packed) == "U8" and f"{module}.weight_global_scale" in tensors:
        return fp4.Nvfp4(tensors, f"{module}.weight", packed, scale, f"{module}.weight_global_scale", divides=True)
    if tensors.type(packed) == "U8":
        return fp4.Mxfp4(tensors, f"{module}.weight", packed, scale)
    raise Error(f"{packed}: compressed-tensors: type {tensors.type(packed)} cannot be read; allowed: I32, U8")


def _declared(config: dict[str, Any]) -> set[int]:
    """The sizes of groups that a configuration names, for any layers."""
    groups = config.get("config_groups")
    schemes = groups.values() if isinstance(groups, dict) else []
    weights = [scheme.get("weights") for scheme in schemes if isinstance(scheme, dict)]
    sizes = [scheme.get("group_size") for scheme in weights if isinstance(scheme, dict)]
    return {size for size in sizes if isinstance(size, int) and size > 0}


class PackQuantized(Layer):
    def __init__(self, tensors: Tensors, module: str, declared: Collection[int]) -> None:
        packed = f"{module}.weight_packed"
        shape = tensors[f"{module}.weight_shape"].tolist()
        words = tensors.shape(packed)
        if len(shape) != 2 or len(words) != 2 or words[0] != shape[0]:
            raise Error(f"{packed}: shape {list(words)} does not fit weight_shape {shape}; matrices can be read")
        self._n, self._k = shape
        self.bits = words[1] * 32 // self._k
        if not 1 <= self.bits <= 8 or -(-self._k * self.bits // 32) != words[1]:
            raise Error(f"{packed}: {words[1]} words a row hold no {self._k} codes of 1 to 8 bits")
        dtype = torch.bfloat16 if tensors.type(f"{module}.weight_scale") == "BF16" else torch.float16
        super().__init__(f"{module}.weight", f"compressed-tensors int{self.bits}", dtype)
        self._tensors, self._module, self._declared = tensors, module, declared

    def _codes(self) -> torch.Tensor:
        return packed_bits.from_words(self._tensors[f"{self._module}.weight_packed"], self.bits, self._k)

    def _scales(self) -> torch.Tensor:
        """[N, groups], float32."""
        scales = self._tensors[f"{self._module}.weight_scale"].float()
        scales = scales.reshape(-1, 1) if scales.dim() < 2 else scales
        return scales.expand(self._n, scales.shape[1])

    def _group_of_column(self, groups: int) -> torch.Tensor:
        """[K]"""
        name = f"{self._module}.weight_g_idx"
        named = self._tensors[name].to(torch.int64) if name in self._tensors else None
        if named is None or int(named.min()) < 0:  # -1: there is no order of its own
            return torch.arange(self._k) // self._group_size(groups)
        if int(named.max()) >= groups:
            raise Error(f"{name}: names groups that there are no scales of, of {groups}")
        return named

    def _group_size(self, groups: int) -> int:
        return group_size(self._k, groups, self._declared, self._module)

    def _zeros(self, groups: int) -> torch.Tensor:
        """[N, groups], of codes."""
        name = f"{self._module}.weight_zero_point"
        if name not in self._tensors:
            return torch.full((self._n, groups), 2 ** (self.bits - 1), dtype=torch.int32)
        stored = self._tensors[name]
        if stored.dtype != torch.int32:  # of formats that pack no zero points
            return stored.to(torch.int32).expand(self._n, groups) + 2 ** (self.bits - 1)
        return packed_bits.from_words(stored.t(), self.bits, self._n).t().to(torch.int32)

    def planned(self) -> Planned:
        if self.bits > MOST_BITS:
            raise Refused(f"{self.bits} bits, where kernels multiply 1 to {MOST_BITS}")
        groups = self._scales().shape[1]
        aligned = aligned_groups(self._group_of_column(groups), self._group_size(groups))
        return Planned(self.bits, aligned.group, differ(self._zeros(groups)), aligned.order is not None)

    def codes(self) -> Codes:
        self.planned()
        scales = self._scales()
        groups = scales.shape[1]
        aligned = aligned_groups(self._group_of_column(groups), self._group_size(groups))
        return with_zeros(self._codes(), scales, self._zeros(groups), self.bits, aligned)

    def weights(self) -> torch.Tensor:
        scales = self._scales()
        index = self._group_of_column(scales.shape[1])
        zeros = self._zeros(scales.shape[1])[:, index]
        return scales[:, index] * (self._codes().to(torch.int32) - zeros)
