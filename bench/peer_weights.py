"""Linear layers of other libraries, for bench/decode.py to measure in the same steps."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import torch
from decoder_weights import MEMBERS, SINGLE, Weights
from lean_decoder import Projections

#: Weights that share a scale, for all.
BLOCK = 64


class Peer(NamedTuple):
    module: str  #: that is imported
    package: str  #: that pip installs
    measured: str  #: what of it is measured: the rows' name
    layer: Callable[[ModuleType, torch.nn.Linear], torch.nn.Module]  #: with the same weights, quantized
    weight_bytes: Callable[[torch.nn.Module], int]  #: of such a layer


def bitsandbytes_layer(library: ModuleType, linear: torch.nn.Linear) -> torch.nn.Module:
    """NF4 with float32 scales, which are not quantized in turn: that would make products slower."""
    layer = library.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        linear.bias is not None,
        compute_dtype=linear.weight.dtype,
        compress_statistics=False,
        quant_type="nf4",
        device="meta",
    )
    weight = library.nn.Params4bit(
        linear.weight.detach(), requires_grad=False, blocksize=BLOCK, compress_statistics=False, quant_type="nf4"
    )
    layer.weight = weight.to(linear.weight.device)  # which quantizes it
    layer.bias = linear.bias
    return layer.eval()


def bitsandbytes_bytes(layer: torch.nn.Module) -> int:
    return layer.weight.nbytes + layer.weight.quant_state.absmax.nbytes


class HummingLinear(torch.nn.Module):
    """A layer of the library with the bias added behind it, which it would otherwise want with its weights."""

    def __init__(self, layer: torch.nn.Module, bias: torch.nn.Parameter | None) -> None:
        super().__init__()
        self.layer = layer
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias


def humming_layer(library: ModuleType, linear: torch.nn.Linear) -> torch.nn.Module:
    """Symmetric integers of 4 bits."""
    layer = library.HummingLayer(
        shape_n=linear.out_features,
        shape_k=linear.in_features,
        weight_config={"dtype": "uint4", "group_size": BLOCK},
        torch_dtype=linear.weight.dtype,
    ).to(linear.weight.device)
    layer.load_from_unquantized(linear.weight.detach())
    layer.transform()
    return HummingLinear(layer, linear.bias).eval()


def humming_bytes(layer: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in layer.layer.parameters())


PEERS = {
    "bitsandbytes": Peer("bitsandbytes", "bitsandbytes", "bitsandbytes nf4", bitsandbytes_layer, bitsandbytes_bytes),
    "humming": Peer("humming.layer", "humming-kernels", "humming uint4", humming_layer, humming_bytes),
}


def imported(name: str) -> ModuleType:
    """Raises ImportError that says how to get it."""
    peer = PEERS[name]
    try:
        return importlib.import_module(peer.module)
    except ImportError as missing:
        raise ImportError(
            f"{name} cannot be imported here ({missing}); install it: pip install {peer.package}"
        ) from missing


def with_peer(name: str, original: Weights) -> Weights:
    """Every layer's weights, quantized by the library."""
    peer = PEERS[name]
    library = imported(name)
    plain, lean = [], []
    for modules, projections in zip(original.plain, original.lean):
        plain.append({kind: peer.layer(library, module) for kind, module in modules.items()})
        together = {kind: peer.layer(library, getattr(projections, kind)) for kind in MEMBERS}
        lean.append(Projections(**together, **{kind: plain[-1][module] for kind, module in SINGLE.items()}))
    total = sum(peer.weight_bytes(module) for modules in plain for module in modules.values())
    return Weights(peer.measured, plain, lean, total, must_be_captured=False)
