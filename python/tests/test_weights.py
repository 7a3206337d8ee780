"""Quantizing, and what comes back."""

from __future__ import annotations

import pickle

import pytest
import torch

import lutsmith
from reference import quantized, random_weight


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("group", [32, 64, 128, 256, "channel"])
def test_weights_are_the_nearest_that_table_and_scale_allow(dtype, bits, group):
    weight = random_weight(70, 328, dtype)
    packed = lutsmith.quantize(weight, method="nf", bits=bits, group=group)
    expected = quantized(weight, packed.table, 0 if group == "channel" else group, dtype)
    # Products of two 16-bit numbers fit into a float.
    assert torch.equal(packed.dequantize(torch.float32).double(), expected)
    assert torch.equal(packed.dequantize(), expected.to(torch.float32).to(dtype))


def test_attributes_say_what_was_asked_for():
    packed = lutsmith.quantize(random_weight(40, 64), method="nf", bits=4, group=32)
    assert (packed.bits, packed.group, packed.n, packed.k, packed.shape) == (4, 32, 40, 64, (40, 64))
    assert packed.dtype == torch.float16 and packed.device.type == "cpu"
    assert packed.nbytes == packed.data.numel()
    assert packed.table[0] == -1 and packed.table[7] == 0 and packed.table[15] == 1
    assert "w4 g32 40x64 f16" in repr(packed)


def test_type_of_the_kernel_is_the_weights_own_or_the_one_given():
    assert lutsmith.quantize(random_weight(8, 32, torch.bfloat16)).dtype == torch.bfloat16
    assert lutsmith.quantize(random_weight(8, 32, torch.float32)).dtype == torch.float16
    assert lutsmith.quantize(random_weight(8, 32), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_strides_of_the_weights_are_honoured():
    wide = random_weight(64, 256)
    for view in (wide[:, :128], wide[::2, :128], wide[:128].t()[:, ::2][:64], wide[:1].expand(64, 256), wide.t()):
        assert torch.equal(lutsmith.quantize(view).data, lutsmith.quantize(view.contiguous()).data)


def test_matrix_of_many_slabs_is_the_same_on_any_number_of_threads():
    weight = random_weight(1200, 2048)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = lutsmith.quantize(weight, bits=3)
        values = alone.dequantize()
        torch.set_num_threads(4)
        together = lutsmith.quantize(weight, bits=3)
        assert torch.equal(alone.data, together.data)
        assert torch.equal(values, together.dequantize())
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("values", [[0.5, -1.0, 0.25, 1.0], torch.tensor([0.5, -1.0, 0.25, 1.0])])
def test_table_of_ones_own_is_used_as_given(values):
    weight = random_weight(32, 64)
    packed = lutsmith.quantize(weight, bits=2, group=32, table=values)
    assert packed.table == (0.5, -1.0, 0.25, 1.0)
    assert torch.equal(packed.dequantize(torch.float32).double(), quantized(weight, packed.table, 32, torch.float16))


def test_pairs_of_values_are_taken_for_two_codes():
    generator = torch.Generator().manual_seed(1)
    pairs = torch.randn(16, 2, generator=generator)
    packed = lutsmith.quantize(random_weight(32, 64), bits=2, group=32, table=pairs)
    assert " pair " in packed.format
    scales_and_pairs = packed.dequantize(torch.float32).reshape(32, 2, 16, 2)
    ratios = scales_and_pairs[..., 0] / scales_and_pairs[..., 1]
    stored = torch.tensor(packed.table).reshape(16, 2)
    nearest = (ratios.unsqueeze(-1) - stored[:, 0] / stored[:, 1]).abs().amin(-1)
    assert (nearest <= 1e-4 * ratios.abs()).all()


def test_matrix_outlives_state_dict_pickle_and_text():
    packed = lutsmith.quantize(random_weight(33, 72, torch.bfloat16), method="int", bits=3, group=128)
    for copy in (
        lutsmith.PackedWeight.from_state_dict(packed.state_dict()),
        pickle.loads(pickle.dumps(packed)),
        lutsmith.PackedWeight(packed.data.clone(), str(packed.format)),
    ):
        assert copy.format == packed.format
        assert torch.equal(copy.dequantize(), packed.dequantize())


def test_move_to_the_same_device_copies_nothing():
    packed = lutsmith.quantize(random_weight(8, 32))
    assert packed.to("cpu") is packed
    assert packed.to("meta").device.type == "meta"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "nff"}, ["nff", "nf, int, fp"]),
        ({"bits": 9}, ["bits: 9"]),
        ({"group": 48}, ["group: 48", "32, 64, 128, 256"]),
        ({"group": "row"}, ["'row'", "'channel'"]),
        ({"dtype": torch.float32}, ["torch.float32", "torch.float16, torch.bfloat16"]),
        ({"table": [0.0] * 5}, ["5 values", "16 (scalar)", "512 (pair)"]),
        ({"table": [0.0] * 16}, ["all values are 0"]),
        ({"table": [float("inf")] * 16}, ["finite"]),
    ],
)
def test_settings_that_are_not_allowed_are_refused_with_those_that_are(arguments, words):
    with pytest.raises(lutsmith.Error) as refused:
        lutsmith.quantize(random_weight(32, 64), **arguments)
    assert refused.value.code == "invalid_argument"
    for word in words:
        assert word in str(refused.value)


def test_weights_that_cannot_be_quantized_are_named():
    weight = random_weight(32, 64)
    weight[7, 9] = float("nan")
    with pytest.raises(lutsmith.Error, match="row 7, column 9"):
        lutsmith.quantize(weight)
    with pytest.raises(lutsmith.Error, match=r"\(32,\).*\[N, K\]"):
        lutsmith.quantize(torch.zeros(32, dtype=torch.float16))
    with pytest.raises(lutsmith.Error, match="torch.float64.*torch.float32"):
        lutsmith.quantize(random_weight(32, 64).double())
    with pytest.raises(lutsmith.Error, match="k: 12"):
        lutsmith.quantize(random_weight(32, 12))


def test_what_is_no_tensor_is_refused_with_what_to_do():
    for wrong in ([[1.0, 2.0]], torch.nn.Linear(64, 8)):
        with pytest.raises(lutsmith.Error, match=r"allowed: a tensor \[N, K\]; lutsmith.nn.Linear.from_linear"):
            lutsmith.quantize(wrong)


def test_bytes_that_are_not_of_the_format_are_refused():
    packed = lutsmith.quantize(random_weight(32, 64))
    with pytest.raises(lutsmith.Error, match=f"{packed.nbytes - 1} bytes given"):
        lutsmith.PackedWeight(packed.data[1:], packed.format)
    with pytest.raises(lutsmith.Error, match="torch.int8"):
        lutsmith.PackedWeight(packed.data.to(torch.int8), packed.format)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "v2 w4 g64 32x64 f16 scalar 00",
        "v1 w4 g64 32x64 f16 scalar",
        "v1 w4 g64 32x64 f16 scalar 3c00",
        "v1 w4 g64 32 f16 scalar 3c00",
        "v1 w4 g64 32x64 f32 scalar " + 16 * "3c00",
        "v1 w4 g48 32x64 f16 scalar " + 16 * "3c00",
        "v1 w4 g64 032x64 f16 scalar " + 16 * "3c00",
        "v1 w4 g64 32x64 f16 scalar " + 16 * "3C00",
        "v1 w4 g64 32x64 f16 vector " + 16 * "3c00",
    ],
)
def test_lines_that_are_no_formats_are_refused(line):
    with pytest.raises(lutsmith.Error):
        lutsmith.PackedWeight(torch.zeros(4096, dtype=torch.uint8), line)


def test_torchs_default_device_changes_nothing():
    weight = torch.randn(32, 128, dtype=torch.float16)
    x = torch.randn(2, 128, dtype=torch.float16)
    packed = lutsmith.quantize(weight, bits=3)
    with torch.device("meta"):  # also what stands for a GPU here
        other = lutsmith.quantize(weight, bits=3)
        dequantized, product, table = other.dequantize(), lutsmith.matmul(x, other), other.table
    assert torch.equal(other.data, packed.data)
    assert torch.equal(dequantized, packed.dequantize())
    assert torch.equal(product, lutsmith.matmul(x, packed))
    assert table == packed.table
