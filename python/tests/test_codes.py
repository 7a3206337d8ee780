"""Packed weights of codes, scales and tables that are there already."""

from __future__ import annotations

import pytest
import torch

import lutsmith


def random_codes(n: int, k: int, bits: int, groups: int, dtype: torch.dtype, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(2**bits, (n, k), generator=generator, dtype=torch.uint8)
    scales = torch.randn(n, groups, generator=generator).to(dtype)
    table = torch.randn(2**bits, generator=generator)
    return codes, scales, table


def product_of(codes, scales, table, group: int) -> torch.Tensor:
    """scale * table[code] in float64, by the definition."""
    each = scales.double().repeat_interleave(group or codes.shape[1], dim=1)[:, : codes.shape[1]]
    return each * table.to(scales.dtype).double()[codes.long()]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize(("group", "groups"), [(32, 11), (64, 6), (128, 3), (256, 2), ("channel", 1)])
def test_weights_are_scale_times_value_of_the_code_and_come_back(dtype, bits, group, groups):
    codes, scales, table = random_codes(37, 328, bits, groups, dtype)
    packed = lutsmith.PackedWeight.from_codes(codes, scales, table, group)
    assert packed.bits == bits and packed.group == (0 if group == "channel" else group) and packed.dtype == dtype
    assert torch.equal(packed.codes(), codes)
    assert torch.equal(packed.scales(), scales)
    assert packed.table == tuple(table.to(dtype).tolist())
    expected = product_of(codes, scales, table, packed.group)
    assert torch.equal(packed.dequantize(torch.float32).double(), expected)
    assert torch.equal(packed.dequantize(), expected.to(dtype))


def test_what_quantizing_makes_is_made_again_of_its_parts():
    weight = torch.randn(70, 200, generator=torch.Generator().manual_seed(1)).half()
    for table in (None, torch.randn(16, 2, generator=torch.Generator().manual_seed(2))):
        packed = lutsmith.quantize(weight, bits=2, group=32, method="int", table=table)
        again = lutsmith.PackedWeight.from_codes(packed.codes(), packed.scales(), packed.table, 32, bits=2)
        assert again.format == packed.format
        assert torch.equal(again.data, packed.data)


def test_codes_of_any_integers_and_strides_are_taken():
    codes, scales, table = random_codes(64, 128, 3, 2, torch.float16)
    expected = lutsmith.PackedWeight.from_codes(codes, scales, table, 64)
    for other in (codes.long(), codes.to(torch.int8), codes.t().contiguous().t()):
        given = lutsmith.PackedWeight.from_codes(other, scales.t().contiguous().t(), table.tolist(), 64)
        assert torch.equal(given.data, expected.data)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"codes": torch.full((32, 64), 4, dtype=torch.uint8)}, ["codes: 4", "row 0, column 0", "0 to 3"]),
        ({"codes": torch.full((32, 64), -1)}, ["-1 to -1", "0 to 3"]),
        ({"codes": torch.zeros(32, 64)}, ["codes: torch.float32", "torch.uint8"]),
        ({"codes": torch.zeros(64, dtype=torch.uint8)}, ["codes: (64,)", "two dimensions"]),
        ({"codes": [[1]]}, ["codes: list"]),
        ({"scales": torch.ones(32, 1, dtype=torch.float16)}, ["(32, 1)", "(32, 2)"]),
        ({"scales": torch.ones(32, 2)}, ["scales: torch.float32", "torch.bfloat16", ".to()"]),
        ({"scales": torch.full((32, 2), float("inf")).half()}, ["scales: inf", "finite"]),
        ({"table": [1.0] * 5}, ["5 values", "2**bits"]),
        ({"table": [1e6] * 4}, ["not finite in torch.float16"]),
        ({"table": [float("nan")] * 4}, ["not finite"]),
        ({"bits": 3}, ["4 values"]),
        ({"group": 48}, ["group: 48", "32, 64, 128, 256"]),
    ],
)
def test_parts_that_do_not_fit_are_refused_with_what_is_allowed(changed, words):
    parts = {
        "codes": torch.zeros(32, 64, dtype=torch.uint8),
        "scales": torch.ones(32, 2, dtype=torch.float16),
        "table": [-1.0, 0.0, 0.5, 1.0],
        "group": 32,
    }
    with pytest.raises(lutsmith.Error) as refused:
        lutsmith.PackedWeight.from_codes(**{**parts, **changed})
    for word in words:
        assert word in str(refused.value)
