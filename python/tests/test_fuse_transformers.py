"""Fused launches in models of transformers: small random ones, on the CPU."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch

import lutsmith
from lutsmith.nn import fuse
from lutsmith.nn.fused import FusedMember
from lutsmith.nn.gated_mlp import GatedMLP, why_no_gate
from lutsmith.transformers import LutsmithConfig
from reference import Products
from test_transformers import ARCHITECTURES, SIZES, TOKENS, load, logits, packed_layers, relative_error, same_bytes

LAYERS = SIZES["num_hidden_layers"]
APART, TOGETHER = 7 * LAYERS, 4 * LAYERS  # launches: q, k, v, o, gate, up, down; qkv, o, gate and up, down
HEADS = {"head_dim": 32}  # so that k has a multiple of 32 rows


@pytest.fixture
def packed_model(tmp_path):
    """A random model, quantized while it loads."""

    def make(name: str = "llama", sizes=None, **settings):
        config_class, model_class = ARCHITECTURES[name]
        torch.manual_seed(7)
        model = model_class(config_class(**{**SIZES, **HEADS, **(sizes or {})})).half()
        for key, value in model.named_parameters():
            if key.endswith("bias"):
                value.data.normal_(std=0.1)
        model.save_pretrained(tmp_path / "original")
        return load(tmp_path / "original", LutsmithConfig(**settings))

    return make


def launches(model, **given) -> int:
    with Products() as products, torch.no_grad():
        model(TOKENS, **given)
    return len(products.batch_invariant)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_fused_model_computes_the_same_with_fewer_launches(packed_model, name):
    model = packed_model(name)
    expected = logits(model)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    assert launches(model) == APART
    assert fuse(model) == (2 * LAYERS, {})
    assert launches(model) == TOGETHER
    # The CPU's own matrix product sums in another order for other N, which may show in the last bit; and gates are
    # rounded once instead of four times.
    assert relative_error(logits(model), expected) < 2e-3
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    kernels = {kernel["n"]: kernel.get("gated") for kernel in lutsmith.manifest(model)}
    assert kernels == {96: None, 128 + 2 * 64: None, 2 * 160: "gelu_tanh" if name.startswith("gemma") else "silu"}


def test_gated_mlp_is_nearer_to_what_the_codes_stand_for(packed_model):
    model = packed_model(group=32)
    mlp = model.model.layers[0].mlp
    plain = copy.deepcopy(mlp)
    x = torch.randn(5, 96, generator=torch.Generator().manual_seed(2)).half()
    gate, up = (layer.packed_weights()[0].dequantize(torch.float32).double() for layer in (mlp.gate_proj, mlp.up_proj))
    expected = torch.nn.functional.silu(x.double() @ gate.T) * (x.double() @ up.T)
    fuse(model)
    with torch.no_grad():
        error, before = (
            relative_error(given.double(), expected)
            for given in (mlp.gate_proj.fused(x), plain.act_fn(plain.gate_proj(x)) * plain.up_proj(x))
        )
        assert error < 3e-4 and error < before
        assert relative_error(mlp(x).double(), plain(x).double()) < 2e-3
        for member in ("gate_proj", "up_proj"):  # called by themselves
            assert relative_error(getattr(mlp, member)(x).double(), getattr(plain, member)(x).double()) < 1e-3


def test_gated_mlp_keeps_what_its_module_had(packed_model):
    model = packed_model("mistral")
    calls = []
    mlp = model.model.layers[1].mlp
    mlp.register_forward_hook(lambda *given: calls.append(given))
    config = mlp.config
    fuse(model)
    assert isinstance(mlp, GatedMLP) and model.model.layers[1].mlp is mlp and mlp.config is config
    logits(model)
    assert len(calls) == 1
    done = fuse(model)
    assert done == (0, {}) and "(mlp): lutsmith.GatedMLP(" in repr(model)
    mlp._forward_hooks.clear()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(logits(other), logits(model))
        other.model.layers[1].mlp.gate_proj.fused.weight.zero_()
        assert not torch.equal(logits(other), logits(model))


def test_weights_can_be_loaded_into_a_gated_mlp(packed_model):
    model = packed_model()
    mlp = fused_mlp = model.model.layers[0].mlp
    state = {key: value.clone() for key, value in mlp.state_dict().items()}
    state["gate_proj.weight"], state["up_proj.weight"] = state["up_proj.weight"], state["gate_proj.weight"]
    apart = copy.deepcopy(mlp)
    apart.load_state_dict(state)
    fuse(model)
    fused_mlp.load_state_dict(state)
    assert all(torch.equal(value, state[key]) for key, value in fused_mlp.state_dict().items())
    x = torch.randn(3, 96).half()
    with torch.no_grad():
        assert relative_error(fused_mlp(x).double(), apart(x).double()) < 2e-3
    with pytest.raises(RuntimeError, match=r"gate_proj.weight: shape \(8,\) is not allowed"):
        fused_mlp.load_state_dict({**state, "gate_proj.weight": state["gate_proj.weight"][:8]})
    assert model.to("meta").model.layers[0].mlp.up_proj.weight.is_meta


@pytest.mark.parametrize(
    ("sizes", "gated", "reason"),
    [
        ({"intermediate_size": 168}, True, None),  # no multiple of 32 rows
        ({"hidden_act": "gelu_new"}, True, None),
        ({"hidden_act": "gelu"}, False, "neither silu nor gelu"),
        ({"mlp_bias": True}, False, "has a bias"),
    ],
    ids=["rows", "gelu_new", "gelu", "bias"],
)
def test_mlp_is_gated_where_its_kernels_can(packed_model, sizes, gated, reason):
    model = packed_model(sizes=sizes)
    expected = logits(model)
    mlp = model.model.layers[0].mlp
    assert (why_no_gate(mlp, mlp.gate_proj, mlp.up_proj) is None) == (reason is None)
    assert reason is None or reason in why_no_gate(mlp, mlp.gate_proj, mlp.up_proj)
    assert fuse(model) == (2 * LAYERS, {})
    assert isinstance(mlp, GatedMLP) == gated
    assert launches(model) == TOGETHER
    assert relative_error(logits(model), expected) < 2e-3


def test_mlp_whose_forward_was_replaced_is_not_gated(packed_model):
    model = packed_model()
    mlp = model.model.layers[0].mlp
    mlp.forward = mlp.forward
    assert fuse(model) == (2 * LAYERS, {})
    assert not isinstance(mlp, GatedMLP) and isinstance(mlp.up_proj, FusedMember)


def test_generated_tokens_are_those_of_the_model_apart(packed_model):
    model = packed_model("qwen3", method="int")
    together = copy.deepcopy(model)
    fuse(together)
    given = {"attention_mask": torch.ones_like(TOKENS), "max_new_tokens": 6, "do_sample": False}
    for cache in ({}, {"cache_implementation": "static"}):
        assert torch.equal(together.generate(TOKENS, **given, **cache), model.generate(TOKENS, **given, **cache))


@pytest.mark.parametrize("group", [64, "channel"])
def test_fused_model_is_saved_as_if_it_was_not(packed_model, tmp_path, group):
    model = packed_model("qwen2.5", group=group)
    model.save_pretrained(tmp_path / "apart")
    fuse(model)
    model.save_pretrained(tmp_path / "together")
    again = load(tmp_path / "together")
    assert not any(isinstance(layer, FusedMember) for layer in packed_layers(again).values())
    assert same_bytes(again, load(tmp_path / "apart")) and same_bytes(again, model)


def test_configuration_has_models_fused_when_they_are_loaded(packed_model, tmp_path):
    model = packed_model(fuse=True)
    assert launches(model) == TOGETHER
    model.save_pretrained(tmp_path / "packed")
    assert json.loads((tmp_path / "packed" / "config.json").read_text())["quantization_config"]["fuse"] is True
    again = load(tmp_path / "packed")
    assert launches(again) == TOGETHER
    assert torch.equal(logits(again), logits(model)) and same_bytes(again, model)
    # As releases without the option wrote it.
    text = json.loads((tmp_path / "packed" / "config.json").read_text())
    del text["quantization_config"]["fuse"]
    (tmp_path / "packed" / "config.json").write_text(json.dumps(text))
    assert launches(load(tmp_path / "packed")) == APART


def test_what_cannot_be_fused_stays_apart_and_is_named(packed_model, monkeypatch):
    from transformers.utils import logging

    said = []
    monkeypatch.setattr(logging.get_logger("lutsmith.transformers"), "warning", said.append)
    model = packed_model(fuse=True, modules_to_not_convert=["k_proj", "model.layers.1.mlp.up_proj"])
    assert launches(model) == APART - LAYERS - 2  # gate and up of the first layer take one
    assert any(
        "model.layers.*.self_attn.q_proj (2): a Linear of torch.nn.modules.linear is no lutsmith.nn.Linear" in warning
        and "model.layers.*.mlp.gate_proj (1): a Linear" in warning
        for warning in said
    )


def test_fused_model_gives_torchs_layers_back(packed_model):
    model = packed_model("qwen2.5")
    expected = logits(copy.deepcopy(model).dequantize())
    fuse(model)
    plain = model.dequantize()
    assert not packed_layers(plain) and not any(name.endswith("fused") for name, _ in plain.named_modules())
    assert torch.equal(logits(plain), expected)


def test_compiled_attention_and_mlp_are_one_graph_each_with_the_fused_launch(packed_model):
    model = packed_model()
    fuse(model)
    expected = logits(model)
    graphs = []

    def backend(graph, inputs):
        calls = ("lutsmith.matmul", "lutsmith.gated_matmul")
        graphs.append(sum(str(node.target).startswith(calls) for node in graph.graph.nodes))
        return graph.forward

    torch.compiler.reset()
    for layer in model.model.layers:  # not the model, of which torch 2.6 makes several graphs, whatever its weights are
        for module in (layer.self_attn, layer.mlp):
            module.compile(fullgraph=True, backend=backend)
    assert torch.equal(logits(model), expected)
    assert graphs == [2] * len(graphs) and graphs  # qkv, o; gated, down


def test_a_wrong_value_of_the_option_is_refused():
    with pytest.raises(ValueError, match="LutsmithConfig: fuse: 'yes' is not allowed; allowed: True, False"):
        LutsmithConfig(fuse="yes")
