"""Models with random weights in known shapes, and their linear layers in several forms: for bench/decode.py."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
import transformers
from lean_decoder import Projections

import lutsmith
import lutsmith.nn

CONFIGURATIONS: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "llama3.1-8b": lambda: transformers.LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
        max_position_embeddings=8192,
    ),
    "qwen2.5-7b": lambda: transformers.Qwen2Config(
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        vocab_size=152064,
        max_position_embeddings=8192,
    ),
    "gemma2-9b": lambda: transformers.Gemma2Config(
        hidden_size=3584,
        intermediate_size=14336,
        num_hidden_layers=42,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=256,
        query_pre_attn_scalar=256,
        vocab_size=256000,
        sliding_window=4096,
        max_position_embeddings=8192,
    ),
    "tiny": lambda: transformers.LlamaConfig(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=320,
        max_position_embeddings=8192,
    ),
}


def configuration(model: str, layers: int | None = None) -> transformers.PretrainedConfig:
    """layers: instead of the model's own."""
    config = CONFIGURATIONS[model]()
    if layers:
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    return config


class Weights(NamedTuple):
    """A way in which the linear layers of a model are held."""

    name: str
    plain: list[dict[str, torch.nn.Module]]  #: of each layer, by the names of transformers ("mlp.down_proj")
    lean: list[Projections]
    bytes: int  #: of all linear layers of the decoder, without the head
    must_be_captured: bool = True  #: else a step that no CUDA graph can hold is measured without one

    def put_into(self, model: torch.nn.Module) -> None:
        for layer, modules in zip(model.model.layers, self.plain):
            for name, module in modules.items():
                layer.set_submodule(name, module)


MEMBERS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
}
SINGLE = {"o": "self_attn.o_proj", "down": "mlp.down_proj"}


def random_model(config: transformers.PretrainedConfig, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
    attention = "eager" if config.model_type == "gemma2" else "sdpa"
    torch.manual_seed(1)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    return model.eval().requires_grad_(False)


def fused(linears: list[torch.nn.Linear]) -> torch.nn.Linear:
    """All rows in one layer, whose memory the given ones share from now on."""
    weight = torch.cat([linear.weight for linear in linears])
    together = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    together.weight = torch.nn.Parameter(weight, requires_grad=False)
    if linears[0].bias is not None:
        together.bias = torch.nn.Parameter(torch.cat([linear.bias for linear in linears]), requires_grad=False)
    for linear, rows in zip(linears, weight.split([linear.out_features for linear in linears])):
        linear.weight = torch.nn.Parameter(rows, requires_grad=False)
    return together


def with_16_bits(model: torch.nn.Module) -> Weights:
    plain, lean = [], []
    for layer in model.model.layers:
        modules = {name: layer.get_submodule(name) for names in MEMBERS.values() for name in names}
        modules |= {name: layer.get_submodule(name) for name in SINGLE.values()}
        together = {kind: fused([modules[name] for name in names]) for kind, names in MEMBERS.items()}
        plain.append(modules)
        lean.append(Projections(**together, **{kind: modules[name] for kind, name in SINGLE.items()}))
    total = sum(module.weight.nbytes for modules in plain for module in modules.values())
    return Weights("16 bits", plain, lean, total)


def symmetric_table(bits: int) -> list[float]:
    """That of NormalFloat with 2 bits is not symmetric, and the mean that it gives to every row, the same in all layers,
    makes sums that float16 cannot hold."""
    return torch.linspace(-1, 1, 2**bits).tolist()


def with_lutsmith(original: Weights, bits: int, group: int, activation: str) -> Weights:
    """The first layer's weights, quantized; the other layers have copies. activation: of lutsmith.nn.GatedLinear."""
    table = symmetric_table(bits)

    def packed(linear: torch.nn.Linear) -> lutsmith.nn.Linear:
        return lutsmith.nn.Linear.from_linear(linear, bits=bits, group=group, table=table)

    def copied(layer: lutsmith.nn.Linear) -> lutsmith.nn.Linear:
        return lutsmith.nn.Linear(lutsmith.PackedWeight(layer.weight.clone(), layer.format), layer.bias)

    first_plain = {name: packed(module) for name, module in original.plain[0].items()}
    qkv = packed(original.lean[0].qkv)
    gate, up = (first_plain[name].packed_weights()[0] for name in MEMBERS["gate_up"])
    gated = lutsmith.nn.GatedLinear(gate, up, activation)
    plain, lean = [], []
    for _ in original.plain:
        modules = {name: copied(module) for name, module in first_plain.items()}
        plain.append(modules)
        lean.append(Projections(copied(qkv), modules[SINGLE["o"]], copy.deepcopy(gated), modules[SINGLE["down"]]))
    total = sum(module.weight.nbytes for modules in plain for module in modules.values())
    return Weights(f"lutsmith {bits} bits", plain, lean, total)
