"""GPTQ and AWQ: integers with zero points, W^T [K, N] in 32-bit words.

    M.qweight   GPTQ: int32 [K * bits / 32, N], packed along K      AWQ: int32 [K, N / 8], packed along N, eight columns
    M.qzeros    int32 [groups, N * bits / 32]                            in the order 0 2 4 6 1 3 5 7
    M.scales    [groups, N]
    M.g_idx     GPTQ: int32 [K]: the group of each column of W

weight = scale * (code - zero); zero_points.py has what becomes of it. GPTQ's version 1 stores zero - 1.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from lutsmith._core import Error
from lutsmith._torch import torch
from lutsmith.checkpoints import bits as packed_bits
from lutsmith.checkpoints.layers import MOST_BITS, Codes, Layer, Planned, Refused, aligned_groups, group_size
from lutsmith.checkpoints.tensors import Tensors
from lutsmith.checkpoints.zero_points import differ, with_zeros

__all__ = ["Awq", "Gptq", "find", "layer"]

_MEMBERS = (".qweight", ".qzeros", ".scales", ".g_idx")
_AWQ_PLACES = [0, 4, 1, 5, 2, 6, 3, 7]  # column c of eight is the word's code at [c]
_AWQ_BITS = 4
_BITS = (2, 3, 4, 8)


def find(tensors: Tensors) -> dict[str, list[str]]:
    """{module: the tensors that belong to it}"""
    modules = [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]
    return {module: [module + member for member in _MEMBERS if module + member in tensors] for module in modules}


def layer(tensors: Tensors, module: str, config: dict[str, Any]) -> Layer:
    """By the shapes of qweight and scales. Raises Error where they are neither GPTQ's nor AWQ's."""
    rows, columns = _matrix(tensors, f"{module}.qweight")
    groups, outputs = _matrix(tensors, f"{module}.scales")
    if columns == outputs:
        return Gptq(tensors, module, config)
    if columns * 8 == outputs and rows % groups == 0:
        return Awq(tensors, module, config)
    raise Error(
        f"{module}: qweight [{rows}, {columns}] and scales [{groups}, {outputs}] are neither GPTQ's nor AWQ's; "
        "a checkpoint that was repacked for one kernel (Marlin and others) cannot be read"
    )


def _matrix(tensors: Tensors, name: str) -> tuple[int, int]:
    shape = tensors.shape(name) if name in tensors else tensors[name].shape
    if len(shape) != 2:
        raise Error(f"{name}: shape {list(shape)}; a matrix is expected")
    return shape[0], shape[1]


def _declared(config: dict[str, Any], k: int, groups: int, module: str) -> int:
    size = config.get("group_size", config.get("q_group_size"))
    return group_size(k, groups, [size] if isinstance(size, int) and size > 0 else [], module)


class _ZeroPoints(Layer):
    """scale * (code - zero), both of a group."""

    bits: int
    _group_size: int
    _tensors: Tensors
    _module: str

    @abstractmethod
    def _codes(self) -> torch.Tensor:
        """[N, K], uint8"""

    @abstractmethod
    def _zeros(self) -> torch.Tensor:
        """[N, groups], int32"""

    @abstractmethod
    def _group_of_column(self) -> torch.Tensor:
        """[K]"""

    def _scales(self) -> torch.Tensor:
        """[N, groups], float32"""
        return self._tensors[f"{self._module}.scales"].t().float()

    def planned(self) -> Planned:
        if self.bits > MOST_BITS:
            raise Refused(f"{self.bits} bits, where kernels multiply 1 to {MOST_BITS}")
        aligned = aligned_groups(self._group_of_column(), self._group_size)
        return Planned(self.bits, aligned.group, differ(self._zeros()), aligned.order is not None)

    def codes(self) -> Codes:
        self.planned()
        aligned = aligned_groups(self._group_of_column(), self._group_size)
        return with_zeros(self._codes(), self._scales(), self._zeros(), self.bits, aligned)

    def weights(self) -> torch.Tensor:
        index = self._group_of_column()
        return self._scales()[:, index] * (self._codes().to(torch.int32) - self._zeros()[:, index])


class Gptq(_ZeroPoints):
    def __init__(self, tensors: Tensors, module: str, config: dict[str, Any]) -> None:
        words, self._n = _matrix(tensors, f"{module}.qweight")
        self._groups, _ = _matrix(tensors, f"{module}.scales")
        self._version = str(config.get("checkpoint_format", ""))
        if f"{module}.g_idx" in tensors:
            (self._k,) = tensors.shape(f"{module}.g_idx")
            self.bits = words * 32 // self._k
        elif config.get("bits") in _BITS:
            self.bits = config["bits"]
            self._k = words * 32 // self.bits
        else:
            raise Error(f"{module}: GPTQ: without g_idx the bits must be in config.json or quantize_config.json")
        if self.bits not in _BITS or words * 32 != self._k * self.bits:
            raise Error(
                f"{module}: GPTQ: {words} words hold no {self._k} codes of {self.bits} bits; allowed: 2, 3, 4, 8"
            )
        if self._version not in ("", "gptq", "gptq_v2"):
            raise Error(
                f"{module}: GPTQ: checkpoint_format {self._version!r} cannot be read; allowed: 'gptq', 'gptq_v2'"
            )
        self._config = config
        self._group_size = _declared(config, self._k, self._groups, module)
        scales = tensors.type(f"{module}.scales")
        dtype = torch.bfloat16 if scales == "BF16" else torch.float16
        super().__init__(f"{module}.weight", f"GPTQ {self.bits} bits", dtype)
        self._tensors, self._module = tensors, module

    def _codes(self) -> torch.Tensor:
        return packed_bits.from_words(self._tensors[f"{self._module}.qweight"].t(), self.bits, self._k)

    def _zeros(self) -> torch.Tensor:
        words = self._tensors[f"{self._module}.qzeros"]
        stored = packed_bits.from_words(words, self.bits, self._n).t().to(torch.int32)
        if self._version == "gptq_v2":
            return stored
        zeros = (stored + 1) & (2**self.bits - 1)
        # Zeros of version 2 would be taken for others: version 1 without a configuration is believed only where it
        # makes sense of them.
        if not self._config and not bool((zeros == 2 ** (self.bits - 1)).all()):
            raise Error(
                f"{self._module}: GPTQ: zero points that are not those of a symmetric version 1, and no config.json or "
                "quantize_config.json beside the file that names the version ('checkpoint_format')"
            )
        return zeros

    def _group_of_column(self) -> torch.Tensor:
        if f"{self._module}.g_idx" not in self._tensors:
            return torch.arange(self._k) // self._group_size
        named = self._tensors[f"{self._module}.g_idx"].to(torch.int64)
        if not 0 <= int(named.min()) <= int(named.max()) < self._groups:
            raise Error(f"{self._module}: GPTQ: g_idx names groups that there are no scales of, of {self._groups}")
        return named


class Awq(_ZeroPoints):
    bits = _AWQ_BITS

    def __init__(self, tensors: Tensors, module: str, config: dict[str, Any]) -> None:
        self._k, _ = _matrix(tensors, f"{module}.qweight")
        groups, self._n = _matrix(tensors, f"{module}.scales")
        self._group_size = _declared(config, self._k, groups, module)
        dtype = torch.bfloat16 if tensors.type(f"{module}.scales") == "BF16" else torch.float16
        super().__init__(f"{module}.weight", "AWQ 4 bits", dtype)
        self._tensors, self._module = tensors, module

    def _columns(self, words: torch.Tensor) -> torch.Tensor:
        """[rows, N / 8] words -> [N, rows]"""
        stored = packed_bits.from_words(words, _AWQ_BITS, self._n)
        return stored.reshape(-1, self._n // 8, 8)[..., _AWQ_PLACES].reshape(-1, self._n).t().contiguous()

    def _codes(self) -> torch.Tensor:
        return self._columns(self._tensors[f"{self._module}.qweight"])

    def _zeros(self) -> torch.Tensor:
        return self._columns(self._tensors[f"{self._module}.qzeros"]).to(torch.int32)

    def _group_of_column(self) -> torch.Tensor:
        return torch.arange(self._k) // self._group_size
