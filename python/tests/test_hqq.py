"""The method "hqq", against its definition in float64, group by group in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lutsmith
from lutsmith import hqq
from lutsmith.gptq import quantize_with_feedback
from lutsmith.hadamard import Hadamard
from lutsmith.nn import FusedLinear, Linear
from lutsmith.tensor_parallel import columns
from lutsmith.transformers import LutsmithConfig
from reference import assert_right, product, random_weight
from test_quantizers import heavy_tailed
from test_transformers import checkpoint, load, logits, packed_layers, same_bytes  # noqa: F401

NORM = 0.7


def stored(value: float, dtype: torch.dtype) -> float:
    return float(torch.tensor(value, dtype=torch.float64).to(torch.float32).to(dtype))


def defined(weights: np.ndarray, bits: int, dtype: torch.dtype, turns: int = 20) -> tuple[float, float, float]:
    """Scale, offset and sum |error / scale|^p of one group."""
    most, middle = 2**bits - 1, 2 ** (bits - 1)
    scale = stored((weights.max() - weights.min()) / most, dtype)
    offset = stored(weights.min() + middle * scale, dtype)
    beta, best = 10.0, (np.inf, offset)
    for turn in range(turns + 1):
        codes = np.clip(np.rint((weights - offset) / scale + middle), 0, most)
        error = (weights - offset) / scale - (codes - middle)
        size = np.abs(error)
        best = min(best, (float((size**NORM).sum()), offset), key=lambda found: found[0])
        with np.errstate(divide="ignore"):
            stays = np.sign(error) * np.maximum(0, size - size ** (NORM - 1) / beta)
        zero = (codes - (weights / scale - stays)).mean()
        offset = stored((middle - zero) * scale, dtype)
        beta *= 1.01
    return scale, best[1], best[0]


def errors(weight: torch.Tensor, solved: hqq.Solution, bits: int, group: int) -> torch.Tensor:
    """Sum |error / scale|^p of each full group."""
    n, k = weight.shape
    scales, offsets = (each.double().unsqueeze(-1) for each in (solved.scales, solved.offsets))
    ratios = (weight.double().reshape(n, -1, group) - offsets) / scales
    return (ratios - (solved.codes.reshape(n, -1, group).double() - 2 ** (bits - 1))).abs().pow(NORM).sum(-1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_offsets_are_those_of_the_definition(dtype, bits):
    weight = heavy_tailed(12, 512).float()
    solved = hqq.solve(weight, bits, 64, dtype)
    assert solved.scales.dtype == solved.offsets.dtype == dtype
    found = errors(weight, solved, bits, 64)
    same = 0
    for row in range(12):
        for group in range(8):
            members = weight[row, 64 * group : 64 * (group + 1)].double().numpy()
            scale, offset, error = defined(members, bits, dtype)
            assert float(solved.scales[row, group]) == scale
            # Where float32 rounds a code otherwise, turns part; what they end with is as good.
            assert float(found[row, group]) == pytest.approx(error, rel=0.02)
            same += float(solved.offsets[row, group]) == offset
    assert same >= 0.9 * 96


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_no_group_is_worse_and_most_are_better_than_with_its_extremes(bits):
    weight = heavy_tailed(32, 1024).float()
    plain = errors(weight, hqq.solve(weight, bits, 64, torch.float16, turns=0), bits, 64)
    solved = errors(weight, hqq.solve(weight, bits, 64, torch.float16), bits, 64)
    assert (solved <= plain * (1 + 1e-5)).all()
    assert solved.sum() < 0.97 * plain.sum()


def test_groups_without_a_range_are_exact():
    weight = torch.zeros(4, 128)
    weight[1], weight[2, :64] = 0.25, -3.0
    packed = lutsmith.quantize(weight, method="hqq", group=64)
    assert torch.equal(packed.dequantize(torch.float32), weight)
    assert (packed.codes() == 8).all()  # the table's zero, for want of a better one


@pytest.mark.parametrize("group", [64, 256, "channel"])
def test_matrix_is_scale_times_integer_plus_offset_in_groups_of_any_size(group):
    weight = random_weight(40, 328)
    packed = lutsmith.quantize(weight, method="hqq", bits=3, group=group)
    assert packed.has_offsets and packed.table == tuple(range(-4, 4))
    width = 328 if group == "channel" else group
    of_groups = (packed.scales(), packed.offsets())
    scales, offsets = (each.double().repeat_interleave(width, 1)[:, :328] for each in of_groups)
    expected = scales * (packed.codes().double() - 4) + offsets
    assert (packed.dequantize(torch.float32).double() - expected).abs().max() < 1e-3 * weight.abs().max()
    assert ((expected - weight.double()).abs() <= 1.02 * scales).all()
    nearest = ((weight.double() - offsets) / scales + 4).round().clamp(0, 7)
    assert (packed.codes().double() == nearest).double().mean() > 0.999
    x = torch.randn(3, 328, dtype=torch.float16)
    assert_right(lutsmith.matmul(x, packed), product(x, packed))


def test_codes_do_not_depend_on_threads():
    weight = random_weight(600, 512)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = lutsmith.quantize(weight, method="hqq", bits=2)
        torch.set_num_threads(4)
        assert torch.equal(lutsmith.quantize(weight, method="hqq", bits=2).data, alone.data)
    finally:
        torch.set_num_threads(threads)


def test_transforms_and_offsets_go_together():
    weight = heavy_tailed(64, 192)
    packed = lutsmith.quantize(weight, method="hqq", bits=4, hadamard=64)
    assert packed.hadamard == Hadamard(64) and packed.has_offsets
    assert float((packed.dequantize(torch.float32) - weight.float()).norm() / weight.float().norm()) < 0.13
    x = torch.randn(3, 192, dtype=torch.float16)
    assert_right(lutsmith.matmul(x, packed), product(x, packed))
    parts = (packed.codes(), packed.scales(), packed.table, packed.group)
    again = lutsmith.PackedWeight.from_codes(*parts, offsets=packed.offsets(), hadamard=packed.hadamard)
    assert again.format == packed.format and torch.equal(again.data, packed.data)
    half = columns(packed, 64, 192)
    assert torch.equal(half.weight.dequantize(torch.float32), packed.dequantize(torch.float32)[:, 64:])


def test_layers_are_fused_and_models_saved(checkpoint, tmp_path):  # noqa: F811
    layers = [Linear.from_linear(torch.nn.Linear(96, 32).half(), method="hqq", bits=4) for _ in range(2)]
    assert FusedLinear(layers).apart is None
    path, original = checkpoint("llama")
    model = load(path, LutsmithConfig(method="hqq", bits=3, group=32))
    for name, layer in packed_layers(model).items():
        weight = original.get_submodule(name).weight.detach()
        assert torch.equal(layer.weight, lutsmith.quantize(weight, method="hqq", bits=3, group=32).data)
    model.save_pretrained(tmp_path / "packed")
    again = load(tmp_path / "packed")
    assert same_bytes(model, again)
    assert torch.equal(logits(model), logits(again))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"table": [0.0] * 16}, ["table", "hqq"]),
        ({"scales": "mse"}, ["scales: 'mse'", "hqq"]),
        ({"importance": torch.ones(64)}, ["importance", "hqq"]),
        ({"bits": 9}, ["bits: 9"]),
        ({"group": 48}, ["group: 48"]),
    ],
)
def test_settings_that_are_not_allowed_are_refused(settings, words):
    with pytest.raises(lutsmith.Error) as refused:
        lutsmith.quantize(random_weight(32, 64), **{"method": "hqq", **settings})
    for word in words:
        assert word in str(refused.value)


def test_weights_that_cannot_be_quantized_are_named():
    weight = random_weight(32, 64, torch.float32)
    weight[7, 9] = float("inf")
    for hadamard in (0, 64):
        with pytest.raises(lutsmith.Error, match="inf at row 7, column 9"):
            lutsmith.quantize(weight, method="hqq", hadamard=hadamard)
    weight[7, 9] = 1e6
    with pytest.raises(lutsmith.Error, match="beyond the range of torch.float16"):
        lutsmith.quantize(weight, method="hqq", bits=2)
    with pytest.raises(lutsmith.Error, match="method: 'hqq' is not allowed with feedback"):
        quantize_with_feedback(random_weight(32, 64), torch.eye(64), method="hqq")
