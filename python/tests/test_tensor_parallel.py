"""Parts of packed weights: the same weights, the same products."""

from __future__ import annotations

import pytest
import torch

import lutsmith
from lutsmith import tensor_parallel

N, K = 72, 576  # rows no multiple of 32; columns no multiple of 128
FORMATS = [(bits, group) for bits in (2, 3, 4) for group in (32, 64, 128, 256, "channel")]
# At the edge of a 128-block, of a group of 64, of 32, inside a group of 32, at a multiple of 8 and at none.
CUTS = [128, 192, 288, 144, 72, 301]


def packed(bits: int, group, **kwargs) -> lutsmith.PackedWeight:
    torch.manual_seed(bits)
    return lutsmith.quantize(torch.randn(N, K, dtype=torch.float16), bits=bits, group=group, **kwargs)


@pytest.mark.parametrize(("bits", "group"), FORMATS)
def test_rows_keep_their_weights_wherever_they_are_cut(bits, group):
    whole = packed(bits, group)
    weights = whole.dequantize()
    for start, stop in ((0, 32), (16, 40), (7, 8), (33, N), (0, N)):
        part = tensor_parallel.rows(whole, start, stop)
        assert (part.shape, part.bits, part.group, part.table) == ((stop - start, K), bits, whole.group, whole.table)
        assert torch.equal(part.dequantize(), weights[start:stop])


@pytest.mark.parametrize(("bits", "group"), FORMATS)
def test_columns_keep_their_weights_wherever_they_are_cut(bits, group):
    whole = packed(bits, group)
    weights = whole.dequantize()
    for cut in CUTS:
        for start, stop in ((0, cut), (cut, K), (cut, cut + 24)):
            part = tensor_parallel.columns(whole, start, stop)
            assert part.weight.k == part.front + (stop - start) + part.back
            kept = part.weight.dequantize()[:, part.front : part.front + stop - start]
            assert torch.equal(kept, weights[:, start:stop])


def test_the_whole_is_a_part_with_the_same_bytes():
    whole = packed(3, 64)
    assert torch.equal(tensor_parallel.rows(whole, 0, N).data, whole.data)
    assert torch.equal(tensor_parallel.columns(whole, 0, K).weight.data, whole.data)


@pytest.mark.parametrize(
    ("group", "start", "expected"),
    [
        (64, 128, (64, 0)),
        (64, 288, (32, 0)),
        (256, 192, (64, 0)),
        (128, 144, (128, 16)),
        ("channel", 144, (0, 0)),
    ],
)
def test_a_part_takes_the_largest_group_that_fits(group, start, expected):
    part = tensor_parallel.columns(packed(4, group), start, K)
    assert (part.weight.group, part.front) == expected
    assert part.back == 0


@pytest.mark.parametrize("ranks", [2, 3, 4, 5])
@pytest.mark.parametrize("group", [32, 64, 256, "channel"])
def test_products_of_parts_are_the_product(ranks, group):
    # Whole numbers throughout, so that every sum is exact and the order of summing changes nothing.
    torch.manual_seed(ranks)
    weight = torch.randint(-7, 8, (N, K)).to(torch.float16)
    weight[:, ::32] = -8  # scales are 1
    whole = lutsmith.quantize(weight, method="int", bits=4, group=group)
    assert torch.equal(whole.dequantize(), weight)
    x = torch.randint(-1, 2, (3, K)).to(torch.float16)
    y = lutsmith.matmul(x, whole)
    assert torch.equal(y.float(), x.float() @ weight.float().T)

    by_rows, by_columns = [], torch.zeros_like(y)
    for rank in range(ranks):
        start, stop = tensor_parallel.even_part(N, rank, ranks)
        by_rows.append(lutsmith.matmul(x, tensor_parallel.rows(whole, start, stop)))
        start, stop = tensor_parallel.even_part(K, rank, ranks)
        by_columns += tensor_parallel.columns(whole, start, stop).matmul(x[:, start:stop])
    assert torch.equal(torch.cat(by_rows, dim=1), y)
    assert torch.equal(by_columns, y)


def test_pair_tables_are_cut_between_pairs():
    torch.manual_seed(0)
    table = torch.randn(2 * 4**2).tolist()
    whole = packed(2, "channel", table=table)
    for start in (8, 9):
        part = tensor_parallel.columns(whole, start, K)
        kept = part.weight.dequantize()[:, part.front : part.front + K - start]
        assert torch.equal(kept, whole.dequantize()[:, start:])


@pytest.mark.parametrize(("ranks", "multiple"), [(1, 1), (3, 1), (5, 64), (16, 32)])
def test_even_parts_cover_everything_once(ranks, multiple):
    parts = [tensor_parallel.even_part(K, rank, ranks, multiple) for rank in range(ranks)]
    assert parts[0][0] == 0 and parts[-1][1] == K
    assert all(before[1] == after[0] for before, after in zip(parts, parts[1:]))
    assert all(start % multiple == 0 for start, _ in parts)
    sizes = [stop - start for start, stop in parts]
    assert max(sizes) - min(sizes) <= multiple


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda whole: tensor_parallel.rows(whole, 8, 8), "rows: 8 to 8 is not allowed; allowed: 0 <= start < stop <= 72"),
        (lambda whole: tensor_parallel.columns(whole, 0, 600), "columns: 0 to 600 .* <= 576"),
        (lambda whole: tensor_parallel.even_part(K, 2, 2), "rank 2 of 2.* from 0 to 1"),
        (lambda whole: tensor_parallel.even_part(K, 0, 2, 128), "multiple 128: not allowed"),
    ],
    ids=["empty", "beyond", "rank", "multiple"],
)
def test_parts_that_there_are_not_are_refused(call, message):
    with pytest.raises(lutsmith.Error, match=message):
        call(packed(4, 64))
