"""Models whose layers have bits and groups of their own, or weights that were packed before."""

from __future__ import annotations

import pytest
import torch

import lutsmith
from lutsmith.packed_models import put_packed
from lutsmith.reordered import ReorderedWeight
from lutsmith.transformers import LutsmithConfig, linear_layers
from test_transformers import checkpoint, load, logits, packed_layers, random_model, same_bytes  # noqa: F401

UP, DOWN, QUERY = (f"model.layers.{name}_proj" for name in ("0.mlp.up", "1.mlp.down", "1.self_attn.q"))
MODULES = {UP: {"bits": 2, "group": 32}, DOWN: {"bits": 3}, QUERY: {"group": "channel"}}
EXPECTED = {UP: (2, 32), DOWN: (3, 64), QUERY: (4, "channel")}


def test_layers_have_bits_and_groups_of_their_own_and_keep_them(checkpoint, tmp_path):
    path, original = checkpoint()
    model = load(path, LutsmithConfig(bits=4, group=64, modules=MODULES))
    for name, layer in packed_layers(model).items():
        bits, group = EXPECTED.get(name, (4, 64))
        expected = lutsmith.quantize(original.get_submodule(name).weight.detach(), bits=bits, group=group)
        assert layer.format == expected.format and torch.equal(layer.weight, expected.data)
    model.save_pretrained(tmp_path / "packed")
    again = load(tmp_path / "packed")
    assert again.config.quantization_config.modules == MODULES
    assert same_bytes(model, again) and torch.equal(logits(model), logits(again))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({UP: {"bits": 5}}, f"modules: {UP}: bits: 5 is not allowed; allowed: 1, 2, 3, 4"),
        ({UP: {"group": 48}}, f"modules: {UP}: .*group.*48"),
        ({UP: {"method": "int"}}, f"modules: {UP}: 'method' is not allowed; allowed: bits, group"),
    ],
    ids=str,
)
def test_wrong_settings_of_a_layer_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        LutsmithConfig(modules=wrong)


@pytest.mark.parametrize("name", ["model.layers.0.mlp.sideways_proj", "lm_head"])
def test_settings_of_a_layer_that_is_not_quantized_are_refused(checkpoint, name):
    path, _ = checkpoint()
    with pytest.raises(ValueError, match=rf"modules names '{name}', which is no layer.*model\.layers\.0"):
        load(path, LutsmithConfig(modules={name: {"bits": 3}}))


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_any_packed_weights_make_a_model_that_saves_and_loads(tmp_path, tied):
    model = random_model("gemma2", torch.float32, tie_word_embeddings=tied)
    packed = {}
    for index, (name, layer) in enumerate(linear_layers(model).items()):
        table = torch.linspace(-1, 1, 2 ** (2 + index % 3)) ** 3
        settings = {"table": table, "bits": 2 + index % 3, "group": (32, 64)[index % 2]}
        packed[name] = lutsmith.quantize(layer.weight.detach(), **settings)
    left = "model.layers.1.self_attn.v_proj"
    del packed[left]
    embedding = model.get_input_embeddings().weight.detach().half()
    assert put_packed(model, packed) is model
    assert packed_layers(model).keys() == packed.keys() and model.dtype == torch.float16
    model.save_pretrained(tmp_path / "packed")
    again = load(tmp_path / "packed")
    assert {name: layer.format for name, layer in packed_layers(again).items()} == {
        name: each.format for name, each in packed.items()
    }
    assert same_bytes(model, again) and torch.equal(logits(model), logits(again))
    assert torch.equal(again.get_input_embeddings().weight, embedding)
    assert type(again.get_submodule(left)) is torch.nn.Linear
    again.save_pretrained(tmp_path / "twice")
    assert same_bytes(model, load(tmp_path / "twice"))


def test_packed_weights_of_other_layers_are_refused():
    model = random_model("llama")
    (name, layer), *_ = linear_layers(model).items()
    packed = lutsmith.quantize(layer.weight.detach())
    for wrong in ({"other": packed}, {name: lutsmith.quantize(layer.weight.detach()[:64])}):
        with pytest.raises(ValueError, match=rf"not allowed; allowed: names and shapes.*{name}"):
            put_packed(model, wrong)
    two = {name: packed, "lm_head": lutsmith.quantize(model.lm_head.weight.detach(), dtype=torch.bfloat16)}
    with pytest.raises(ValueError, match="2 types of weights"):
        put_packed(model, two)


@pytest.mark.parametrize("method", ["nfl", "packed"])
def test_methods_that_quantize_nothing_are_refused_while_loading(checkpoint, method):
    path, _ = checkpoint()
    with pytest.raises(ValueError, match=f"method '{method}' quantizes nothing.*learn_scales"):
        load(path, LutsmithConfig(method=method))


def test_orders_of_some_weights_are_kept_with_the_model(tmp_path):
    model = random_model("llama", torch.float32)
    packed, expected = {}, {}
    for index, (name, layer) in enumerate(linear_layers(model).items()):
        if name == "lm_head":
            continue
        weight = layer.weight.detach()
        method = ("nf", "hqq", "higgs")[index % 3]
        packed[name] = lutsmith.quantize(weight, method=method, group=32)
        if index % 2:
            packed[name] = ReorderedWeight(packed[name], torch.randperm(weight.shape[1]))
        expected[name] = packed[name].dequantize()
    model = put_packed(model, packed)
    config = model.config.quantization_config
    assert config.reordered
    model.save_pretrained(tmp_path / "packed")
    again = load(tmp_path / "packed")
    assert same_bytes(model, again) and torch.equal(logits(model), logits(again))
    for name, layer in packed_layers(again).items():
        assert torch.equal(layer.to_linear().weight, expected[name])
