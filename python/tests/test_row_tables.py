"""Weights whose rows have tables of their own: made, taken apart, joined, cut, saved and multiplied."""

from __future__ import annotations

import pickle

import pytest
import torch

import lutsmith
from lutsmith import tensor_parallel
from lutsmith.gptq import quantize_with_feedback
from lutsmith.nn import Linear
from reference import assert_right, product, random_weight

N, K = 72, 320


def made(bits: int = 4, group=64, dtype=torch.float16, n: int = N, seed: int = 0, offsets: bool = False):
    """(packed, codes, scales, tables, offsets)"""
    generator = torch.Generator().manual_seed(seed)
    groups = 1 if group == "channel" else -(-K // group)
    codes = torch.randint(0, 2**bits, (n, K), generator=generator, dtype=torch.uint8)
    scales = torch.rand(n, groups, generator=generator).add(0.5).to(dtype)
    tables = torch.randn(n, 2**bits, generator=generator).to(dtype)
    added = torch.randn(n, groups, generator=generator).to(dtype) if offsets else None
    return lutsmith.PackedWeight.from_codes(codes, scales, tables, group, offsets=added), codes, scales, tables, added


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("group", [32, 128, 256, "channel"])
def test_what_a_matrix_is_made_of_comes_back_and_is_what_it_stands_for(bits, group):
    offsets = bits == 3
    packed, codes, scales, tables, added = made(bits, group, offsets=offsets)
    assert packed.table == () and "row" in packed.format.split(" ")
    assert torch.equal(packed.codes(), codes) and torch.equal(packed.scales(), scales)
    assert torch.equal(packed.row_tables(), tables)
    width = K if group == "channel" else group
    spread = scales.double().repeat_interleave(width, 1)[:, :K]
    weight = spread * tables.double().gather(1, codes.long())
    if offsets:
        weight = weight + added.double().repeat_interleave(width, 1)[:, :K]
    assert torch.equal(packed.dequantize(torch.float32).double(), weight.float().double())
    assert pickle.loads(pickle.dumps(packed)).format == packed.format
    x = random_weight(3, K, seed=5)
    assert_right(lutsmith.matmul(x, packed), product(x, packed))


@pytest.mark.parametrize("group", [64, 256, "channel"])
@pytest.mark.parametrize("sizes", [(64, 32, 40), (40, 7, 33)])
def test_rows_are_joined_and_taken_out_with_their_tables(group, sizes):
    members = [made(3, group, n=n, seed=i)[0] for i, n in enumerate(sizes)]
    joined = lutsmith.concatenate(members)
    assert torch.equal(joined.dequantize(), torch.cat([member.dequantize() for member in members]))
    start = 0
    for member in members:
        part = tensor_parallel.rows(joined, start, start + member.n)
        assert part.format == member.format and torch.equal(part.data, member.data)
        start += member.n
    x = random_weight(2, K, seed=5)
    for index, piece in enumerate((slice(0, 192), slice(192, K))):
        part = tensor_parallel.columns(joined, piece.start, piece.stop).weight
        assert torch.equal(part.dequantize(), joined.dequantize()[:, piece]), index
    with pytest.raises(lutsmith.Error, match="kind of table row and scalar"):
        lutsmith.concatenate([joined, lutsmith.quantize(random_weight(32, K), bits=3, group=group)])
    assert lutsmith.matmul(x, joined).shape == (2, sum(sizes))


@pytest.mark.parametrize("group", [64, 256])
def test_gate_and_up_take_turns_with_their_tables(group):
    gate, up = made(4, group, seed=1)[0], made(4, group, seed=2)[0]
    x = random_weight(3, K, seed=5)
    both = lutsmith.interleave_gate(gate, up)
    rows = torch.stack([gate.dequantize().unflatten(0, (-1, 8)), up.dequantize().unflatten(0, (-1, 8))], 1).flatten(0, 2)
    assert torch.equal(both.dequantize(), rows)
    expected = torch.nn.functional.silu(product(x, gate)) * product(x, up)
    assert torch.allclose(lutsmith.gated_matmul(x, both).double(), expected, rtol=4e-3, atol=4e-3)


def test_given_tables_are_rounded_to_and_learned_ones_lose_less():
    weight = random_weight(64, K, torch.float32)
    weight[::2] = weight[::2].sign() * (0.08 + weight[::2] / 16)  # whose values lie elsewhere than those of other rows
    counts = torch.ones(K)
    _, _, _, tables, _ = made(n=64)
    given = lutsmith.quantize(weight, table=tables.float(), group="channel")
    assert torch.equal(given.row_tables(), tables)
    errors = {}
    for name, table in (("all", None), ("row", "row")):
        packed = lutsmith.quantize(weight, method="kmeans", bits=3, group="channel", table=table, importance=counts)
        errors[name] = (packed.dequantize(torch.float32) - weight)[::2].norm().item()
    assert packed.row_tables().shape == (64, 8)
    assert errors["row"] < 0.8 * errors["all"]


def test_models_keep_them_and_their_kernels_are_asked_for(tmp_path):
    layers = [Linear(made(n=64, seed=i)[0]) for i in range(2)]
    kernels = lutsmith.manifest(layers[0], tokens=[1])
    assert kernels == [{"bits": 4, "group": 64, "n": 64, "k": K, "dtype": "f16", "table": "row", "m": [1]}]
    state = layers[0].state_dict()
    layers[1].load_state_dict(state)
    x = random_weight(2, K, seed=5)
    assert torch.equal(layers[1](x), layers[0](x))
    fused = lutsmith.nn.FusedLinear([Linear(made(n=64, seed=i)[0]) for i in range(2)])
    assert fused.apart is None and fused(x)[0].shape == (2, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tables: tables[:-1], r"table: \(71, 16\) given; allowed: \[72, 2\*\*bits\], a table for each row"),
        (lambda tables: tables[:, :9], r"table: \(72, 9\) given"),
        (lambda tables: tables * torch.inf, "table: values that are not finite"),
    ],
    ids=["rows", "entries", "finite"],
)
def test_other_tables_are_refused(change, message):
    _, codes, scales, tables, _ = made()
    with pytest.raises(lutsmith.Error, match=message):
        lutsmith.PackedWeight.from_codes(codes, scales, change(tables), 64)


def test_what_wants_one_table_says_so():
    weight = random_weight(N, K, torch.float32)
    with pytest.raises(lutsmith.Error, match="table: pairs of values, or one for each row, are not allowed with feedback"):
        quantize_with_feedback(weight, torch.eye(K), table=made()[3].float())
    with pytest.raises(lutsmith.Error, match="table: 'row' is not allowed with method nf"):
        lutsmith.quantize(weight, table="row")
