"""lutsmith.nn.Linear, without a model around it."""

from __future__ import annotations

import pytest
import torch

import lutsmith
from lutsmith.nn import Linear, set_batch_invariant
from reference import Products


def random_linear(n: int = 48, k: int = 96, bias: bool = True, dtype: torch.dtype = torch.float16) -> torch.nn.Linear:
    torch.manual_seed(3)
    return torch.nn.Linear(k, n, bias=bias).to(dtype)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_the_product_is_the_operators(bias):
    linear = random_linear(bias=bias)
    layer = Linear.from_linear(linear, bits=3, group=32)
    packed = lutsmith.quantize(linear.weight.detach(), bits=3, group=32)
    x = torch.randn(2, 5, 96, dtype=torch.float16)
    y = layer(x)
    assert y.shape == (2, 5, 48)
    assert torch.equal(y, lutsmith.matmul(x, packed, linear.bias))
    assert torch.equal(linear.weight, random_linear().weight)


def test_every_argument_reaches_the_codes():
    linear = random_linear(dtype=torch.float32)
    table = [0.5, -1.0, 0.25, 1.0]
    layer = Linear.from_linear(linear, bits=2, group=128, table=table, dtype=torch.bfloat16)
    packed = lutsmith.quantize(linear.weight.detach(), bits=2, group=128, table=table, dtype=torch.bfloat16)
    assert layer.format == packed.format
    assert torch.equal(layer.weight, packed.data)
    assert layer.bias.dtype == torch.bfloat16
    integers = lutsmith.quantize(linear.weight.detach(), method="int")
    assert Linear.from_linear(linear, method="int").format == integers.format
    weighed = {"scales": "mse", "importance": torch.linspace(0, 1, 96) ** 4}
    searched = lutsmith.quantize(linear.weight.detach(), **weighed)
    assert torch.equal(Linear.from_linear(linear, **weighed).weight, searched.data)
    assert not torch.equal(Linear.from_linear(linear, scales="mse").weight, searched.data)


def test_one_switch_reaches_every_layer_of_a_model():
    linear = random_linear(96, 96)
    layers = [Linear.from_linear(linear), Linear.from_linear(linear, batch_invariant=True)]
    model = torch.nn.Sequential(layers[0], torch.nn.Sequential(torch.nn.ReLU(), layers[1]))
    x = torch.randn(2, 96, dtype=torch.float16)
    expected = model(x)
    for switch, flags in ((None, [False, True]), (True, [True, True]), (False, [False, False])):
        if switch is not None:
            set_batch_invariant(model, switch)
        with Products() as products:
            assert torch.equal(model(x), expected)
        assert products.batch_invariant == flags
        assert repr(model).count("batch_invariant=True") == sum(flags)
    with pytest.raises(lutsmith.Error, match=r"model: ReLU has no lutsmith\.nn\.Linear"):
        set_batch_invariant(torch.nn.ReLU())


def test_an_exported_layer_carries_the_switch_as_plain_data():
    layer = Linear.from_linear(random_linear(), batch_invariant=True)
    x = torch.randn(3, 96, dtype=torch.float16)
    program = torch.export.export(layer, (x,))
    with Products() as products:
        assert torch.equal(program.module()(x), layer(x))
    assert products.batch_invariant == [True, True]


def test_a_layer_that_was_pickled_without_the_switch_is_not_batch_invariant():
    layer = Linear.from_linear(random_linear())
    del layer.__dict__["batch_invariant"]
    with Products() as products:
        layer(torch.zeros(1, 96, dtype=torch.float16))
    assert products.batch_invariant == [False]


def test_a_state_dict_has_all_there_is(tmp_path):
    layer = Linear.from_linear(random_linear(), bits=4, group=64)
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    other = Linear.from_linear(torch.nn.Linear(96, 48).half(), bits=4, group=64, table=[float(i) for i in range(16)])
    other.load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    x = torch.randn(3, 96, dtype=torch.float16)
    assert other.format == layer.format
    assert torch.equal(other(x), layer(x))


def test_weights_of_another_shape_are_refused():
    layer = Linear.from_linear(random_linear(n=48, k=96))
    other = Linear.from_linear(random_linear(n=96, k=48))
    with pytest.raises(lutsmith.Error, match="96x48 .* is not allowed; allowed: 48x96"):
        layer.load_state_dict(other.state_dict())


def test_a_bias_of_another_length_is_refused():
    packed = lutsmith.quantize(random_linear(n=48).weight.detach())
    with pytest.raises(lutsmith.Error, match=r"bias: shape \(96,\) is not allowed; allowed: \(48,\)"):
        Linear(packed, torch.zeros(96))


def test_changing_the_types_of_a_model_leaves_codes_alone():
    layer = Linear.from_linear(random_linear())
    before = layer.weight.clone()
    model = torch.nn.Sequential(layer).to(torch.bfloat16)
    assert torch.equal(model[0].weight, before)
    with pytest.raises(lutsmith.Error, match="bfloat16"):
        model(torch.zeros(1, 96, dtype=torch.bfloat16))


def test_to_linear_has_the_weights_that_the_codes_stand_for():
    layer = Linear.from_linear(random_linear())
    linear = layer.to_linear(torch.float32)
    assert torch.equal(linear.weight, layer.packed_weights()[0].dequantize(torch.float32))
    assert torch.equal(linear.bias, layer.bias.float())


def test_packed_weights_share_the_layers_memory():
    layer = Linear.from_linear(random_linear())
    (packed,) = layer.packed_weights()
    assert packed.data.data_ptr() == layer.weight.data_ptr()


def test_a_printed_model_tells_the_format():
    text = repr(torch.nn.Sequential(Linear.from_linear(random_linear(), bits=3, group=32)))
    assert "lutsmith.Linear(in_features=96, out_features=48, bias=True, bits=3, group=32, dtype=float16)" in text


def test_compiled_and_exported_it_is_one_graph():
    layer = Linear.from_linear(random_linear())
    x = torch.randn(3, 96, dtype=torch.float16)
    program = torch.export.export(layer, (x,), dynamic_shapes={"x": {0: torch.export.Dim("tokens")}})
    for tokens in (1, 3, 8):
        x = torch.randn(tokens, 96, dtype=torch.float16)
        assert torch.equal(program.module()(x), layer(x))
        assert torch.equal(torch.compile(layer, fullgraph=True, backend="eager")(x), layer(x))
