"""Packed weights with an offset beside each scale."""

from __future__ import annotations

import copy
import json
import struct

import pytest
import torch

import lutsmith
from lutsmith import formats, tensor_parallel

N, K = 72, 576  # rows no multiple of 32; columns no multiple of 128
GROUPS = (32, 64, 128, 256, "channel")


def parts(bits: int, group, dtype: torch.dtype = torch.float16, n: int = N, k: int = K, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    groups = 1 if group == "channel" else -(-k // group)
    codes = torch.randint(2**bits, (n, k), generator=generator, dtype=torch.uint8)
    scales = torch.randn(n, groups, generator=generator).to(dtype)
    offsets = torch.randn(n, groups, generator=generator).to(dtype)
    return codes, scales, torch.randn(2**bits, generator=generator), offsets


def packed(bits: int, group, dtype: torch.dtype = torch.float16, **kwargs) -> lutsmith.PackedWeight:
    codes, scales, table, offsets = parts(bits, group, dtype, **kwargs)
    return lutsmith.PackedWeight.from_codes(codes, scales, table, group, offsets=offsets)


def exact(codes, scales, table, offsets, group) -> torch.Tensor:
    """scale * table[code] + offset in float64, by the definition."""

    def each(values):
        return values.double().repeat_interleave(codes.shape[1] if group == "channel" else group, dim=1)[
            :, : codes.shape[1]
        ]

    return each(scales) * table.to(scales.dtype).double()[codes.long()] + each(offsets)


def assert_nearest(rounded: torch.Tensor, expected: torch.Tensor) -> None:
    """No neighbour in the type is nearer. (torch rounds float64 to 16 bits by way of float32, twice.)"""
    error = (rounded.double() - expected).abs()
    for step in (-1, 1):
        other = (rounded.view(torch.int16) + step).view(rounded.dtype)
        assert torch.all((error <= (other.double() - expected).abs()) | ~torch.isfinite(other))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("group", GROUPS)
def test_weights_are_scale_times_value_plus_offset_and_come_back(dtype, bits, group):
    codes, scales, table, offsets = parts(bits, group, dtype)
    weight = lutsmith.PackedWeight.from_codes(codes, scales, table, group, offsets=offsets)
    assert weight.has_offsets and torch.equal(weight.offsets(), offsets)
    assert torch.equal(weight.codes(), codes) and torch.equal(weight.scales(), scales)
    expected = exact(codes, scales, table, offsets, group)
    assert torch.equal(weight.dequantize(torch.float32), expected.float())
    assert_nearest(weight.dequantize(), expected)


def test_codes_with_zero_points_are_weights_with_offsets():
    generator = torch.Generator().manual_seed(3)
    codes = torch.randint(16, (N, K), generator=generator, dtype=torch.uint8)
    zeros = torch.randint(16, (N, K // 64), generator=generator)
    scales = torch.rand(N, K // 64, generator=generator).half()
    weight = lutsmith.PackedWeight.from_codes(
        codes, scales, range(16), 64, offsets=-(scales.float() * zeros).half()
    )
    each = scales.float().repeat_interleave(64, dim=1)
    expected = each * (codes.float() - zeros.repeat_interleave(64, dim=1))
    assert (weight.dequantize(torch.float32) - expected).abs().max() <= each.max() * 16 * 2**-11


def test_formats_say_so_and_others_are_written_as_before():
    plain = lutsmith.PackedWeight.from_codes(*parts(2, 64)[:3], 64)
    assert not plain.has_offsets and plain.offsets() is None
    assert " offsets" not in plain.format
    weight = packed(2, 64)
    assert weight.format == plain.format.replace(" scalar ", " scalar offsets ")
    assert weight.nbytes == plain.nbytes + 2 * 96 * 10  # rows of whole panels, and groups of whole records
    assert "offsets" in repr(weight)
    with pytest.raises(lutsmith.Error, match="72x576"):
        lutsmith.PackedWeight(weight.data, plain.format)
    with pytest.raises(lutsmith.Error, match="none"):
        formats.known(weight.format.replace("offsets", "shifts"))


@pytest.mark.parametrize(
    ("offsets", "words"),
    [
        (torch.zeros(32, 1, dtype=torch.float16), ["offsets: shape (32, 1)", "(32, 2)"]),
        (torch.zeros(32, 2), ["offsets: torch.float32", "torch.float16"]),
        (torch.zeros(32, 2, dtype=torch.bfloat16), ["offsets: torch.bfloat16", "as the scales are"]),
        ([[0.0]], ["offsets: list"]),
        (torch.full((32, 2), float("inf")).half(), ["offsets: inf", "finite"]),
    ],
)
def test_offsets_that_do_not_fit_are_refused(offsets, words):
    codes, scales = torch.zeros(32, 64, dtype=torch.uint8), torch.ones(32, 2, dtype=torch.float16)
    with pytest.raises(lutsmith.Error) as refused:
        lutsmith.PackedWeight.from_codes(codes, scales, [0.0, 1.0], 32, offsets=offsets)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize("group", GROUPS)
def test_products_on_the_cpu_have_the_offsets(group):
    weight = packed(4, group)
    x = torch.randn(5, K, generator=torch.Generator().manual_seed(7)).half()
    expected = x.double() @ weight.dequantize(torch.float32).double().t()
    for y in (lutsmith.matmul(x, weight), lutsmith.nn.Linear(weight)(x)):
        assert torch.linalg.norm(y.double() - expected) <= 2e-3 * torch.linalg.norm(expected)


@pytest.mark.parametrize("group", GROUPS)
def test_parts_keep_their_weights_wherever_they_are_cut(group):
    whole = packed(3, group)
    weights = whole.dequantize()
    for start, stop in ((0, 32), (16, 40), (33, N)):
        assert torch.equal(tensor_parallel.rows(whole, start, stop).dequantize(), weights[start:stop])
    for start, stop in ((0, 288), (288, K), (144, 301), (72, 200)):
        part = tensor_parallel.columns(whole, start, stop)
        kept = part.weight.dequantize()[:, part.front : part.front + stop - start]
        assert torch.equal(kept, weights[:, start:stop])


@pytest.mark.parametrize("rows", [(64, 40), (33, 40)])
@pytest.mark.parametrize("group", GROUPS)
def test_members_are_joined_with_their_offsets(group, rows):
    codes, scales, table, offsets = parts(4, group, n=sum(rows))
    members = [
        lutsmith.PackedWeight.from_codes(c, s, table, group, offsets=o)
        for c, s, o in zip(codes.split(rows), scales.split(rows), offsets.split(rows))
    ]
    joined = lutsmith.concatenate(members)
    assert torch.equal(joined.data, lutsmith.PackedWeight.from_codes(codes, scales, table, group, offsets=offsets).data)


def test_members_with_and_without_offsets_are_not_joined():
    codes, scales, table, offsets = parts(4, 64)
    plain = lutsmith.PackedWeight.from_codes(codes, scales, table, 64)
    with pytest.raises(lutsmith.Error, match="offsets False and True"):
        lutsmith.concatenate([plain, lutsmith.PackedWeight.from_codes(codes, scales, table, 64, offsets=offsets)])


def test_states_and_copies_keep_offsets():
    weight = packed(4, 128, torch.bfloat16)
    again = lutsmith.PackedWeight.from_state_dict(weight.state_dict())
    assert torch.equal(again.offsets(), weight.offsets())
    layer = lutsmith.nn.Linear(weight)
    other = lutsmith.nn.Linear(packed(4, 128, torch.bfloat16, seed=5))
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    x = torch.ones(1, K, dtype=torch.bfloat16)
    assert torch.equal(other(x), layer(x))


def test_files_say_that_weights_have_offsets(tmp_path):
    weight = packed(4, 64)
    words = torch.tensor(weight.table).half().view(torch.uint8)
    tensors = {"a.packed": ("U8", weight.data), "a.table": ("F16", words)}
    description = {"bits": 4, "group": 64, "n": N, "k": K, "dtype": "f16", "table": "scalar", "offsets": True}
    header: dict = {"__metadata__": {"lutsmith.packed.v1": json.dumps({"a": description})}}
    begin = 0
    for name, (dtype, data) in tensors.items():
        shape = [data.numel() // (2 if dtype == "F16" else 1)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, begin + data.numel()]}
        begin += data.numel()
    text = json.dumps(header).encode()
    file = tmp_path / "packed.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(bytes(d.tolist()) for _, d in tensors.values()))
    read = lutsmith.load(file)["a"]
    assert read.format == weight.format and torch.equal(read.data, weight.data)


def test_manifests_ask_for_kernels_with_offsets():
    (kernel,) = lutsmith.manifest(packed(4, 64))
    assert kernel["offsets"] is True
    assert "offsets" not in lutsmith.manifest(lutsmith.PackedWeight.from_codes(*parts(4, 64)[:3], 64))[0]
