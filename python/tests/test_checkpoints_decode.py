"""Greedy decoding: a model made of a foreign checkpoint writes what the weights that the checkpoint stands for write.

Those weights are computed apart from the package: in foreign.py, and of GGUF by transformers. Prompts are ones after
which no two tokens are so near to each other that the order of sums could decide.
"""

from __future__ import annotations

import pytest
import torch

import foreign
import transformers
from lutsmith import checkpoints
from test_checkpoints_convert import load, packed_layers, read_by_transformers, small_model
from test_checkpoints_convert import write_checkpoint, write_gguf

TOKENS = 64
GROUP = 32
SIZES = {"hidden_size": 128, "head_dim": 32, "max_position_embeddings": 128, "vocab_size": 256}
PROMPT = 8  # tokens
NEAR = 0.003  # some four times what logits differ by


@pytest.fixture(autouse=True)
def one_thread():
    """Of layers this small a second thread computes little, and waits long where other processes have the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def written_by(model: transformers.LlamaForCausalLM, prompt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """prompt [1, PROMPT] -> tokens [1, TOKENS], each the likeliest of those that were not there before (a small
    model would soon repeat itself, which would show little); and by how much it was likelier than the next."""
    greedy = transformers.GenerationConfig(
        min_new_tokens=TOKENS, max_new_tokens=TOKENS, do_sample=False, no_repeat_ngram_size=1, pad_token_id=0,
        output_scores=True, return_dict_in_generate=True,
    )  # fmt: skip
    written = model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=greedy)
    first, second = torch.stack(written.scores, dim=1).float().topk(2).values.unbind(-1)
    return written.sequences[:, PROMPT:], first - second


def prompt_of(seed: int) -> torch.Tensor:
    return torch.randperm(SIZES["vocab_size"], generator=foreign.generator(seed))[:PROMPT].unsqueeze(0)


def zeros(n: int, k: int) -> torch.Tensor:
    return 8 + torch.randint(-3, 4, (n, k // GROUP), generator=foreign.generator(n + k))


def spread(k: int) -> list[int]:
    return (torch.randperm(k, generator=foreign.generator(k)) // GROUP).tolist()


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": GROUP}
FORMATS = {
    "GPTQ v1 with zero points": (lambda n, k: foreign.gptq(n, k, 4, GROUP, 1, zeros(n, k)), GPTQ, 494),
    "GPTQ v2 with act-order": (
        lambda n, k: foreign.gptq(n, k, 4, GROUP, 2, zeros(n, k), spread(k)),
        {**GPTQ, "desc_act": True, "checkpoint_format": "gptq_v2"},
        450,
    ),
    "AWQ": (lambda n, k: foreign.awq(n, k, GROUP, zeros(n, k)), {"quant_method": "awq"}, 494),
    "compressed-tensors": (
        lambda n, k: foreign.pack_quantized(n, k, 4, GROUP, torch.float16, zeros(n, k)),
        {"quant_method": "compressed-tensors"},
        494,
    ),
}


def assert_same_tokens(model, expected, seed: int) -> None:
    tokens, ahead = written_by(expected, prompt_of(seed))
    assert ahead.min() > NEAR, "find another seed"
    assert len(packed_layers(model)) == 14 and tokens.shape == (1, TOKENS)
    assert torch.equal(written_by(model, prompt_of(seed))[0], tokens)


@pytest.mark.parametrize("format", FORMATS)
def test_imported_model_writes_what_its_source_writes(tmp_path, format):
    make, configuration, seed = FORMATS[format]
    expected = write_checkpoint(tmp_path / "source", make, configuration, **SIZES)
    checkpoints.convert(tmp_path / "source", tmp_path / "packed", progress=False)
    assert_same_tokens(load(tmp_path / "packed"), expected, seed)


def q4_k(weights):
    """[n, k] -> bytes [n, k / 256 * 144]: d and dmin of 256; six bits for scale and minimum of each 32; codes."""
    numpy = pytest.importorskip("numpy")
    n = weights.shape[0]
    parts = weights.reshape(n, -1, 8, 32)
    minima = numpy.maximum(-parts.min(-1), 0)
    scales = (parts.max(-1) + minima) / 15
    d, dmin = ((each.max(-1, keepdims=True) / 63).astype(numpy.float16) for each in (scales, minima))
    wholes = [each.astype(numpy.float32) for each in (d, dmin)]
    parts_of_six = [numpy.rint(each / whole).clip(0, 63) for each, whole in zip((scales, minima), wholes)]
    stored = [each * whole for each, whole in zip(parts_of_six, wholes)]
    codes = numpy.rint((parts + stored[1][..., None]) / numpy.maximum(stored[0], 1e-12)[..., None]).clip(0, 15)
    scale, minimum, codes = (each.astype(numpy.uint8) for each in (*parts_of_six, codes))
    low = [scale[..., :4] | scale[..., 4:] >> 4 << 6, minimum[..., :4] | minimum[..., 4:] >> 4 << 6]
    high = scale[..., 4:] & 15 | (minimum[..., 4:] & 15) << 4
    nibbles = codes[..., 0::2, :] | codes[..., 1::2, :] << 4
    first = [each.view(numpy.uint8) for each in (d, dmin)]
    return numpy.concatenate([*first, *low, high, nibbles.reshape(*nibbles.shape[:2], -1)], axis=-1).reshape(n, -1)


def test_imported_gguf_model_of_q4_k_writes_what_its_source_writes(tmp_path):
    sizes = {**SIZES, "hidden_size": 256, "intermediate_size": 256, "head_dim": 64}
    model = small_model(**sizes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("proj.weight"):
                parameter.mul_(3)  # so that layers change what the embedding says
    write_gguf(tmp_path / "m.gguf", model, {"proj.weight": "Q4_K"}, q4_k)
    expected = read_by_transformers(tmp_path / "m.gguf", **sizes)
    original = model.model.layers[0].mlp.up_proj.weight.float()
    read = expected.model.layers[0].mlp.up_proj.weight.float()
    assert 0.03 < (read - original).norm() / original.norm() < 0.1  # the blocks are Q4_K's
    checkpoints.convert(tmp_path / "m.gguf", tmp_path / "packed", progress=False)
    assert_same_tokens(load(tmp_path / "packed"), expected, 456)
