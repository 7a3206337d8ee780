"""A real model by python/examples/smollm2.py, on a few tokens of its text."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import transformers

import lutsmith
from lutsmith.evaluation import Reference, evaluate
from lutsmith.nn import Linear

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import smollm2

TOKENS = 48
WINDOW = TOKENS - 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smollm2")
    smollm2.write_16_bit_model(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def tokens(tokenizer):
    return torch.tensor(tokenizer(smollm2.TEXT.read_text())["input_ids"][:TOKENS])


@pytest.fixture(scope="module")
def original(folder):
    return smollm2.load(folder, None).float()


@pytest.fixture(scope="module")
def quantized(folder):
    return {bits: smollm2.load(folder, bits) for bits in (4, 3)}


@pytest.fixture(scope="module")
def said(original, quantized, tokens):
    """The models' logits, kept before a test changes the weights of one."""
    models = {16: original, **quantized}
    return {bits: Reference.record(model, tokens, WINDOW) for bits, model in models.items()}


def test_layers_whose_width_is_no_multiple_of_128_have_their_own_codes(original, quantized):
    for name in ("model.layers.0.self_attn.k_proj", "model.layers.29.mlp.down_proj"):
        weight = original.get_submodule(name).weight.detach().half()
        for bits, model in quantized.items():
            packed = lutsmith.quantize(weight, bits=bits, group=smollm2.GROUP)
            assert torch.equal(model.get_submodule(name).weight, packed.data)


def test_logits_are_those_of_the_dequantized_weights(original, quantized, said, tokens):
    weights = {name: module.weight for name, module in original.named_modules() if type(module) is torch.nn.Linear}
    for bits, model in quantized.items():
        for name, module in model.named_modules():
            if isinstance(module, Linear):
                weights[name].data = module.packed_weights()[0].dequantize(torch.float32)
        assert evaluate(original, tokens, said[bits], WINDOW).divergence.value < 5e-4


def test_fewer_bits_lose_more_and_four_lose_little(said, tokens):
    original, four, three = (evaluate(said[bits], tokens, said[16], WINDOW) for bits in (16, 4, 3))
    assert original.divergence.value == 0
    assert original.perplexity.value < 100  # of 49152 tokens: the file was read as what it is
    assert four.ratio.value < 1.6
    assert 0 < four.divergence.value < three.divergence.value


def test_a_quantized_model_answers(quantized, tokenizer):
    assert len(smollm2.answer(quantized[4], tokenizer, length=4)) > 3
