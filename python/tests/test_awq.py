"""Calibration, and channels that are scaled by what it found."""

from __future__ import annotations

import pytest
import torch

import lutsmith
from lutsmith.awq import scale_channels
from lutsmith.calibration import block_by_block
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


def test_held_out_tokens_are_summed_apart():
    model = random_model("llama", torch.float32)
    seen: list[torch.Tensor] = []
    layer = "model.layers.1.mlp.down_proj"
    hook = model.get_submodule(layer).register_forward_pre_hook(lambda _, x: seen.append(x[0].detach().double()))
    calls = [TOKENS, TOKENS.flip(0)]
    statistics = lutsmith.calibrate(model, calls, [layer], hessians=True, held_out=0.25)[layer]
    hook.remove()
    fitted, apart = [], []
    for x in (call.flatten(0, 1) for call in seen):
        kept = len(x) - len(x) // 4
        fitted.append(x[:kept])
        apart.append(x[kept:])
    for got, x in ((statistics.hessian, torch.cat(fitted)), (statistics.held_out, torch.cat(apart))):
        torch.testing.assert_close(got.double(), x.T @ x, rtol=1e-4, atol=1e-6)
    assert statistics.tokens == 2 * TOKENS.numel()
    assert lutsmith.calibrate(model, TOKENS, [layer], hessians=True)[layer].held_out is None
    with pytest.raises(lutsmith.Error, match="held_out: 1 is not allowed"):
        lutsmith.calibrate(model, TOKENS, held_out=1)


# With masks of their own for layers with a window (Gemma), and statistics of the model as it is where nothing changes.
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gemma3"])
def test_blocks_are_calibrated_behind_what_those_before_became(name):
    model = uneven(name)
    before = outputs(model)
    whole = lutsmith.calibrate(model, TOKENS, hessians=True)
    # One sequence at a time rounds otherwise than all at once: sums of hundreds of fp32 products of fp32 products.
    for layer, _, seen in block_by_block(model, TOKENS.split(1), hessians=True):
        torch.testing.assert_close(seen.hessian, whole.pop(layer).hessian, rtol=1e-3, atol=1e-3)
    assert list(whole) == ["lm_head"] and torch.equal(outputs(model), before)

    seen_by_block = {}
    for layer, module, seen in block_by_block(model, TOKENS, hessians=True, held_out=0.5):
        seen_by_block[layer] = (seen.hessian + seen.held_out).clone()
        if ".0." in layer:
            module.weight.data.mul_(0.5)
    changed = lutsmith.calibrate(model, TOKENS, hessians=True)
    last = "model.layers.1.mlp.down_proj"
    torch.testing.assert_close(seen_by_block[last], changed[last].hessian, rtol=1e-3, atol=1e-3)
    first = "model.layers.0.mlp.down_proj"
    assert not torch.allclose(seen_by_block[first], changed[first].hessian, rtol=1e-2)
    assert not any(module._forward_pre_hooks for module in model.modules())
    with pytest.raises(lutsmith.Error, match="no decoder layers"):
        next(block_by_block(torch.nn.Linear(8, 8), TOKENS))


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
