"""Weights joined by rows: every member's own bytes, wherever the joint is."""

from __future__ import annotations

import pytest
import torch

import lutsmith
from lutsmith import tensor_parallel
from reference import random_weight

K = 320  # two and a half panels, and no multiple of 256
FORMATS = [(bits, group) for bits in (1, 2, 3, 4) for group in (32, 64, 128, 256, "channel")]
SIZES = {"panels": (64, 32, 96), "the last is cut": (64, 32, 40), "all are cut": (40, 7, 33), "one": (40,)}


def members_of(sizes, bits: int, group, table=None) -> list[lutsmith.PackedWeight]:
    method = "int" if bits == 1 else "nf"
    return [
        lutsmith.quantize(random_weight(n, K, seed=i), method=method, bits=bits, group=group, table=table)
        for i, n in enumerate(sizes)
    ]


@pytest.mark.parametrize(("bits", "group"), FORMATS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_joined_weight_has_the_weights_of_its_members_and_gives_them_back(bits, group, sizes):
    members = members_of(sizes, bits, group)
    joined = lutsmith.concatenate(members)
    assert (joined.shape, joined.bits, joined.group) == ((sum(sizes), K), bits, members[0].group)
    assert joined.table == members[0].table
    assert torch.equal(joined.dequantize(), torch.cat([member.dequantize() for member in members]))
    start = 0
    for member in members:
        part = tensor_parallel.rows(joined, start, start + member.n)
        assert part.format == member.format and torch.equal(part.data, member.data)
        start += member.n


def test_joined_weight_has_the_bytes_of_the_whole_matrix_quantized_at_once():
    weight = random_weight(160, K)
    for sizes in ((64, 96), (24, 136)):
        for group in (64, 256, "channel"):
            parts = [lutsmith.quantize(part, bits=3, group=group) for part in weight.split(sizes)]
            assert torch.equal(lutsmith.concatenate(parts).data, lutsmith.quantize(weight, bits=3, group=group).data)


def test_pair_tables_are_joined():
    table = torch.randn(2 * 4**2, generator=torch.Generator().manual_seed(1)).tolist()
    members = members_of((32, 8), 2, 64, table)
    joined = lutsmith.concatenate(members)
    assert torch.equal(joined.dequantize(), torch.cat([member.dequantize() for member in members]))


def with_tables(*members: tuple[int, str]) -> list[lutsmith.PackedWeight]:
    return [lutsmith.quantize(random_weight(n, K, seed=i), method=method) for i, (n, method) in enumerate(members)]


def test_members_keep_tables_of_their_own_as_segments():
    members = with_tables((64, "nf"), (96, "int"), (32, "int"), (40, "nf"))
    joined = lutsmith.concatenate(members)
    assert joined.segments == (64, 128, 40)  # neighbours of one table are one
    assert joined.table == members[0].table + members[1].table + members[0].table
    assert joined.data.numel() == sum(member.nbytes for member in members)
    assert torch.equal(joined.dequantize(), torch.cat([member.dequantize() for member in members]))
    assert lutsmith.PackedWeight.from_state_dict(joined.state_dict()).format == joined.format
    assert "s64+128+40" in repr(joined) and len(repr(joined)) < 120
    # Of joined weights, and of parts that begin anywhere a segment is left whole panels of.
    assert lutsmith.concatenate([lutsmith.concatenate(members[:2]), *members[2:]]).format == joined.format
    start = 0
    for member in members:
        part = tensor_parallel.rows(joined, start, start + member.n)
        assert part.format == member.format and torch.equal(part.data, member.data)
        start += member.n
    assert tensor_parallel.rows(joined, 32, 200).segments == (32, 128, 8)
    x = random_weight(3, K, seed=9)
    whole = lutsmith.matmul(x, joined)
    assert torch.allclose(whole, torch.cat(lutsmith.matmul(x, members), -1), atol=2e-3)
    assert torch.equal(lutsmith.matmul(x, tensor_parallel.columns(joined, 0, K).weight), whole)


def test_segments_that_are_no_whole_panels_are_refused():
    message = "members: different tables, and 40 rows of one that is not the last are no multiple of 32"
    with pytest.raises(lutsmith.Error, match=message):
        lutsmith.concatenate(with_tables((40, "nf"), (32, "int")))
    joined = lutsmith.concatenate(with_tables((64, "nf"), (64, "int")))
    with pytest.raises(lutsmith.Error, match="segments: 56, 64 rows are not allowed; .* multiples of 32 but for the last"):
        tensor_parallel.rows(joined, 8, 128)
    with pytest.raises(lutsmith.Error, match="gate and up: different tables"):
        lutsmith.interleave_gate(*with_tables((64, "nf"), (64, "int")))


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ("s64+60", "segments: 64, 60 rows are not allowed; allowed: 2 to 4, in all 128"),
        ("s128", "segments: 128 rows are not allowed"),
        ("s8+120", "segments: 8, 120 rows are not allowed"),
        ("s64+64+0", "segments: 64, 64, 0 rows are not allowed"),
        ("s-32+160", "segments: -32, 160 rows are not allowed"),
        ("s64+x", "is none"),
        ("s64+064", "is written otherwise"),
        ("s64+64 row", "is none"),
        ("s64+64 octet", "kind 'octet' is not allowed; allowed: scalar, pair, row"),
    ],
)
def test_lines_of_other_segments_are_refused(segments, message):
    joined = lutsmith.concatenate(with_tables((64, "nf"), (64, "int")))
    table = joined.format.split(" ")[-1]
    of_one = table[: len(table) // 2]
    tables = of_one * (1 + segments.count("+"))
    rows, *kind = segments.split(" ")
    line = joined.format.replace("s64+64", rows).replace(table, tables)
    line = line.replace("scalar", *kind) if kind else line
    with pytest.raises(lutsmith.Error, match=message):
        lutsmith.PackedWeight(joined.data, line)


def test_products_of_a_joined_weight_are_those_of_its_members():
    # Whole numbers throughout, so that every sum is exact and the order of summing changes nothing.
    torch.manual_seed(2)
    weights = [torch.randint(-7, 8, (n, K)).to(torch.float16) for n in (64, 32, 40)]
    for weight in weights:
        weight[:, ::32] = -8  # scales are 1
    members = [lutsmith.quantize(weight, method="int", bits=4, group=32) for weight in weights]
    x = torch.randint(-1, 2, (5, K)).to(torch.float16)
    y = lutsmith.matmul(x, lutsmith.concatenate(members)).split([64, 32, 40], -1)
    for one, member in zip(y, members):
        assert torch.equal(one, lutsmith.matmul(x, member))


def test_rows_that_were_taken_do_not_keep_the_whole_in_memory():
    whole = members_of((64,), 4, 64)[0]
    for start, stop in ((0, 32), (0, 64), (5, 6)):
        part = tensor_parallel.rows(whole, start, stop)
        assert part.data.untyped_storage().nbytes() == part.nbytes
        assert part.data.untyped_storage().data_ptr() != whole.data.untyped_storage().data_ptr()


def other(**settings) -> lutsmith.PackedWeight:
    k = settings.pop("k", K)
    dtype = settings.pop("weight_dtype", torch.float16)
    return lutsmith.quantize(random_weight(32, k, dtype), **{"bits": 4, "group": 64, **settings})


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (other(bits=3), "bits 4 and 3"),
        (other(group="channel"), "group 64 and channel"),
        (other(k=256), "K 320 and 256"),
        (other(weight_dtype=torch.bfloat16), "dtype torch.float16 and torch.bfloat16"),
        (other(table=[float(i) for i in range(16)]), "5 different tables, where 4 is the most"),
        (other().to("meta"), "device cpu and meta"),
        (other(bits=2, table=[1.0] * 32), "bits 4 and 2"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_members_that_differ_in_more_than_n_are_refused(member, message):
    with pytest.raises(lutsmith.Error, match=f"members: {message}: not allowed; .*quantize them alike, or give matmul"):
        lutsmith.concatenate([other(), other(method="int"), other(), other(method="lloyd"), member])


def test_tables_of_another_kind_are_refused():
    scalar, pair = other(bits=2, method="int"), other(bits=2, table=[1.0] * 32)
    with pytest.raises(lutsmith.Error, match="kind of table scalar and pair"):
        lutsmith.concatenate([scalar, pair])


def test_what_is_no_packed_weight_is_refused():
    with pytest.raises(lutsmith.Error, match="members: none given"):
        lutsmith.concatenate([])
    with pytest.raises(lutsmith.Error, match="members: Tensor is not allowed; allowed: what lutsmith.quantize makes"):
        lutsmith.concatenate([other().data])
