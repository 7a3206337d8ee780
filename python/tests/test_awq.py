"""Calibration, and channels that are scaled by what it found."""

from __future__ import annotations

import pytest
import torch

import lutsmith
from lutsmith.awq import scale_channels
from test_transformers import TOKENS, random_model


def outputs(model) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits.double()


def uneven(name: str, **sizes):
    """With channels of very different size, as trained models have them, where norms make them."""
    model = random_model(name, torch.float32, **sizes)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "norm" in key and value.numel() == model.config.hidden_size:
                value.copy_(torch.randn(value.shape, generator=generator).mul(1.2).exp())
    return model


def test_statistics_are_those_of_the_inputs():
    model = random_model("llama", torch.float32)
    seen: list[torch.Tensor] = []
    layer = "model.layers.1.mlp.down_proj"
    hook = model.get_submodule(layer).register_forward_pre_hook(lambda _, x: seen.append(x[0].detach().double()))
    statistics = lutsmith.calibrate(model, [TOKENS[:1], {"input_ids": TOKENS[1:]}], hessians=True)
    hook.remove()
    x = torch.cat(seen, 1).flatten(0, 1)
    of_layer = statistics[layer]
    assert len(statistics) == 2 * 7 + 1 and of_layer.tokens == TOKENS.numel() == len(x)
    torch.testing.assert_close(of_layer.mean_absolute, x.abs().mean(0), rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(of_layer.mean_square, x.square().mean(0), rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(of_layer.hessian.double(), x.T @ x, rtol=1e-4, atol=1e-6)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_model_is_left_in_the_modes_that_its_modules_had():
    model = random_model("llama", torch.float32).train()
    frozen = model.get_submodule("model.layers.0").eval()
    layer = "model.layers.1.mlp.up_proj"
    statistics = lutsmith.calibrate(model, {"input_ids": TOKENS, "use_cache": False}, [layer, layer])
    assert statistics[layer].tokens == TOKENS.numel()  # a layer that is named twice is counted once
    assert model.training and not frozen.training and not frozen.mlp.training


def test_what_cannot_be_calibrated_is_refused():
    model = random_model("llama", torch.float32)
    with pytest.raises(lutsmith.Error, match="'model.norm' is no torch.nn.Linear"):
        lutsmith.calibrate(model, TOKENS, ["model.norm"])
    with pytest.raises(lutsmith.Error, match="batches: list is not allowed.*dicts of keyword arguments"):
        lutsmith.calibrate(model, [[1, 2, 3]])
    with pytest.raises(lutsmith.Error, match="no linear layer was called"):
        lutsmith.calibrate(model, TOKENS, [])
    with pytest.raises(lutsmith.Error, match="Embedding has no torch.nn.Linear"):
        lutsmith.calibrate(torch.nn.Embedding(4, 8), TOKENS)
    assert not any(module._forward_pre_hooks for module in model.modules())
    with pytest.raises(lutsmith.Error, match="no decoder layers"):
        scale_channels(torch.nn.Sequential(torch.nn.Linear(8, 8)), torch.ones(1, 8))


# Of a head's size other than hidden_size / heads, with shared keys and values, biases, and norms of 1 + weight.
@pytest.mark.parametrize("name", ["llama", "qwen2.5", "qwen3", "gemma2", "gemma3", "mistral"])
@pytest.mark.parametrize("shared", [1, 2, 4])
def test_scaled_model_is_the_same_but_for_rounding(name, shared):
    model = uneven(name, num_key_value_heads=4 // shared)
    before = outputs(model)
    foldings = scale_channels(model, TOKENS, bits=3, group=32)
    assert len(foldings) == 2 * 4  # q k v, o, gate up, down of each layer
    assert sum(folding.exponent > 0 for folding in foldings) >= 4
    assert (outputs(model) - before).norm() < 2e-5 * before.norm()


def test_quantized_products_are_better_than_without():
    model = uneven("llama")
    foldings = scale_channels(model, TOKENS, bits=3, group=32)
    assert all(folding.error <= folding.error_before for folding in foldings)
    lost = sum(folding.error for folding in foldings)
    assert lost < 0.8 * sum(folding.error_before for folding in foldings)
    # What was promised is what quantizing the model gives.
    statistics = lutsmith.calibrate(model, TOKENS, hessians=True)
    for folding in foldings:
        errors = energies = 0.0
        for layer in folding.layers:
            weight = model.get_submodule(layer).weight.detach()
            difference = (lutsmith.quantize(weight, bits=3, group=32).dequantize(torch.float32) - weight).double()
            hessian = statistics[layer].hessian.double()
            errors += float(((difference @ hessian) * difference).sum())
            energies += float(((weight.double() @ hessian) * weight.double()).sum())
        assert errors / energies == pytest.approx(folding.error, rel=0.02)
