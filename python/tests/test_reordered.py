"""Columns in another order than those of x: act-order's checkpoints, weights, layers, parts, models."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import foreign
import lutsmith
import transformers
from lutsmith import checkpoints, tensor_parallel
from lutsmith.nn import FusedLinear, Linear, fuse
from lutsmith.reordered import ReorderedWeight
from test_checkpoints import BF16, F16, NAME, load, relative
from test_checkpoints_convert import packed_layers, small_model, write_checkpoint
from test_checkpoints_convert import load as load_model

N, K, GROUP = 40, 256, 64


def spread(k: int = K, group: int = GROUP, seed: int = 3) -> list[int]:
    """The group of each column where they were quantized in a random order."""
    return (torch.randperm(k, generator=foreign.generator(seed)) // group).tolist()


def order_of(groups: list[int]) -> torch.Tensor:
    """Column by column, by hand: all of group 0 as they come, then all of group 1, ..."""
    order = [column for group in range(max(groups) + 1) for column in range(len(groups)) if groups[column] == group]
    return torch.tensor(order, dtype=torch.int32)


def loaded_weight(path, made: foreign.Made, config: dict[str, object] | None = None, **options) -> ReorderedWeight:
    loaded = load(foreign.write(path / "m.safetensors", foreign.named(made, NAME), config), **options)
    (loss,) = loaded.report.losses
    assert loss.how == "exact" and loaded.report.relative_error == 0
    weight = loaded[f"{NAME}.weight"]
    assert isinstance(weight, ReorderedWeight)
    return weight


@pytest.mark.parametrize("dtype", [F16, BF16])
@pytest.mark.parametrize(
    ("bits", "k", "group"), [(4, 256, 64), (3, 256, 128), (2, 192, 32), (4, 160, 128), (4, 192, 96)]
)
def test_act_order_is_exact(tmp_path, bits, k, group, dtype):
    groups = spread(k, group)
    made = foreign.gptq(N, k, bits, group, g_idx=groups, dtype=dtype)
    weight = loaded_weight(tmp_path, made, {"bits": bits, "group_size": group, "desc_act": True})
    order = order_of(groups)
    assert torch.equal(weight.order, order)
    assert weight.stored.group == (32 if group == 96 else group) and weight.stored.dtype == dtype
    assert torch.equal(weight.stored.codes().long(), made.codes[:, order])
    assert torch.equal(weight.dequantize(torch.float32).double(), made.weights)
    assert torch.equal(weight.dequantize(), made.weights.float().to(dtype))


def test_act_order_with_zero_points_is_exact(tmp_path):
    zeros = 8 + torch.randint(-2, 3, (N, K // GROUP), generator=foreign.generator(5))
    made = foreign.gptq(N, K, 4, GROUP, 2, zeros=zeros, g_idx=spread())
    weight = loaded_weight(tmp_path, made, {"checkpoint_format": "gptq_v2"})
    assert weight.stored.has_offsets
    assert torch.equal(weight.dequantize(torch.float32).double(), made.weights)


def test_act_order_of_compressed_tensors_is_exact(tmp_path):
    groups = spread()
    made = foreign.gptq(N, K, 4, GROUP, g_idx=groups)  # for the weights; the same codes and scales
    tensors = {**foreign.pack_quantized(N, K, 4, GROUP, F16).tensors, "weight_g_idx": torch.tensor(groups)}
    weight = loaded_weight(tmp_path, made._replace(tensors=tensors))
    assert torch.equal(weight.dequantize(torch.float32).double(), made.weights)


def test_order_in_which_no_groups_can_be_made_is_refused_or_requantized(tmp_path):
    groups = spread()
    groups[groups.index(0)] = 1  # 63 columns of group 0
    made = foreign.gptq(N, K, 4, GROUP, g_idx=groups)
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), {"bits": 4, "group_size": GROUP})
    with pytest.raises(lutsmith.Error, match=r"g_idx.* no multiples of 32.*requantize=True"):
        load(path)
    packed = load(path, requantize={"group": 32})[f"{NAME}.weight"]
    assert isinstance(packed, lutsmith.PackedWeight)
    assert relative(packed.dequantize(torch.float32), made.weights) < 0.2


# Weights and layers


def whole_numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    """Of which every sum is exact, in whatever order."""
    return torch.randint(-2, 3, shape, generator=foreign.generator(seed)).to(F16)


def reordered_weight(n: int = N, seed: int = 0, order_seed: int = 9) -> ReorderedWeight:
    codes = foreign.random_codes(n, K, 4, seed)
    order = torch.randperm(K, generator=foreign.generator(order_seed))
    stored = lutsmith.PackedWeight.from_codes(codes, torch.ones(n, K // GROUP, dtype=F16), list(range(-8, 8)), GROUP)
    return ReorderedWeight(stored, order)


def test_products_are_those_of_the_dequantized_weight():
    weight = reordered_weight()
    x, bias = whole_numbers(2, 3, K), whole_numbers(N, seed=1)
    expected = (x.float() @ weight.dequantize(torch.float32).T).half()
    assert not torch.equal(lutsmith.matmul(x, weight.stored), expected)
    assert torch.equal(lutsmith.matmul(x, weight), expected)
    assert torch.equal(lutsmith.matmul(x, weight, bias), expected + bias)
    out = torch.empty_like(expected)
    assert lutsmith.matmul(x, weight, out=out) is out and torch.equal(out, expected)
    assert torch.equal(lutsmith.matmul(x, pickle.loads(pickle.dumps(weight))), expected)
    with pytest.raises(lutsmith.Error, match=rf"x: shape \(3, 8\) .*allowed: \[..., {K}\]"):
        lutsmith.matmul(x[0, :, :8], weight)
    with pytest.raises(lutsmith.Error, match="ReorderedWeight among several.*multiply by each"):
        lutsmith.matmul(x, [weight, weight])


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (torch.arange(K - 1), rf"order: torch.int64 \[{K - 1}\] .*\[{K}\]"),
        (torch.arange(K) * 1.0, "order: torch.float32"),
        (torch.arange(K) // 2, rf"0 to {K - 1} once"),
        (torch.arange(K) - 1, rf"0 to {K - 1} once"),
    ],
    ids=["short", "float", "twice", "negative"],
)
def test_what_is_no_order_of_the_columns_is_refused(order, message):
    with pytest.raises(lutsmith.Error, match=message):
        ReorderedWeight(reordered_weight().stored, order)
    layer = Linear(reordered_weight())
    with pytest.raises(lutsmith.Error, match=message):
        layer.load_state_dict({**layer.state_dict(), "order": order})


def test_layer_keeps_the_order():
    weight = reordered_weight()
    layer = Linear(weight, whole_numbers(N, seed=1))
    x, residual = whole_numbers(3, K), whole_numbers(3, N, seed=2)
    expected = lutsmith.matmul(x, weight, layer.bias.detach())
    assert torch.equal(layer(x), expected) and "reordered=True" in repr(layer)
    assert torch.equal(layer(x, residual=residual), expected + residual)
    assert torch.equal(layer.to_linear(torch.float32).weight, weight.dequantize(torch.float32))
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(again(x), expected)
    other = Linear(reordered_weight(seed=4, order_seed=5), torch.zeros(N))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), expected)
    with pytest.raises(RuntimeError, match="Unexpected key.*order"):  # it would multiply by other columns
        Linear(weight.stored, torch.zeros(N)).load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="Missing key.*order"):
        other.load_state_dict(Linear(weight.stored, torch.zeros(N)).state_dict())
    assert torch.equal(torch.compile(layer, backend="eager", fullgraph=True)(x), expected)


def test_kernels_are_those_of_the_stored_weight():
    weight = reordered_weight()
    assert lutsmith.manifest(weight) == lutsmith.manifest(weight.stored) == lutsmith.manifest(Linear(weight))


def test_layers_of_one_order_are_fused_and_others_are_not():
    first, second = (Linear(reordered_weight(32, seed)) for seed in (0, 1))
    x = whole_numbers(3, K)
    expected = [first(x), second(x)]
    fused = FusedLinear([first, second])
    assert fused.apart is None
    assert all(torch.equal(*pair) for pair in zip(fused(x), expected))
    assert all(torch.equal(member(x), y) for member, y in zip(fused.members, expected))
    assert torch.equal(fused.members[1].to_linear().weight, second.to_linear().weight)
    state = fused.state_dict()
    assert torch.equal(state["members.1.order"], second.order)
    FusedLinear([copy.deepcopy(first), copy.deepcopy(second)]).load_state_dict(state)
    with pytest.raises(RuntimeError, match="members.1.order: another order of columns.*before layers are fused"):
        fused.load_state_dict({**state, "members.1.order": torch.arange(K)})

    for other in (Linear(reordered_weight(32, 1, order_seed=8)), Linear(reordered_weight(32, 1).stored)):
        apart = FusedLinear([first, other])
        assert apart.apart == "different orders of columns (act-order)"
        assert all(torch.equal(*pair) for pair in zip(apart(x), [first(x), other(x)]))


def test_parts_of_rows_are_parts_of_the_product_and_parts_of_columns_are_refused():
    weight = reordered_weight()
    x = whole_numbers(3, K)
    y = lutsmith.matmul(x, weight)
    parts = [tensor_parallel.rows(weight, *tensor_parallel.even_part(N, rank, 3)) for rank in range(3)]
    assert torch.equal(torch.cat([lutsmith.matmul(x, part) for part in parts], dim=1), y)
    advice = r"act-order.*columns\(weight.stored, start, stop\).*weight.order\[start:stop\]"
    with pytest.raises(lutsmith.Error, match=advice):
        tensor_parallel.columns(weight, 0, K // 2)
    summed = torch.zeros_like(y)  # as the message says
    for rank in range(3):
        start, stop = tensor_parallel.even_part(K, rank, 3)
        part = tensor_parallel.columns(weight.stored, start, stop)
        summed += part.matmul(x[..., weight.order[start:stop]])
    assert torch.equal(summed, y)


# Models


def with_act_order(alike: bool):
    """Layers of one input are quantized in one order, as it depends on the input alone; or each in its own."""
    made = []

    def make(n: int, k: int) -> foreign.Made:
        made.append(n)
        zeros = 8 + torch.randint(-1, 2, (n, k // 32), generator=foreign.generator(n))
        return foreign.gptq(n, k, 4, 32, 2, zeros=zeros, g_idx=spread(k, 32, k if alike else len(made)))

    return make


CONFIGURATION = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True, "checkpoint_format": "gptq_v2"}


@pytest.mark.parametrize("alike", [True, False], ids=["one order for each input", "an order for each layer"])
def test_model_with_act_order_is_loaded_fused_and_saved_with_its_own_codes(tmp_path, alike):
    sizes = {"hidden_size": 128, "head_dim": 32}
    expected = write_checkpoint(tmp_path / "gptq", with_act_order(alike), CONFIGURATION, **sizes)
    report = checkpoints.convert(tmp_path / "gptq", tmp_path / "packed", progress=False)
    assert report.relative_error == 0 and "14 GPTQ 4 bits: exact" in str(report)
    model = load_model(tmp_path / "packed")
    assert_products(model, expected)
    fused = fuse(model)
    assert fused.launches == (4 if alike else 0)
    assert set(fused.apart.values()) == (set() if alike else {"different orders of columns (act-order)"})
    assert_products(model, expected)
    model.save_pretrained(tmp_path / "again")
    again = load_model(tmp_path / "again")
    assert all(layer.order is not None for layer in packed_layers(again).values())
    assert_products(again, expected)
    again.dequantize()
    for name, parameter in expected.named_parameters():
        assert torch.equal(again.get_parameter(name), parameter), name


def assert_products(model, expected) -> None:
    for name, layer in packed_layers(model).items():
        assert torch.equal(layer.to_linear().weight, expected.get_parameter(f"{name}.weight")), name
    tokens = torch.tensor([[1, 5, 9, 100, 42, 7, 77, 3]])
    with torch.no_grad():
        logits, right = model(tokens).logits.float(), expected(tokens).logits.float()
    assert (logits - right).norm() / right.norm() < 5e-3


def test_layers_without_act_order_beside_others_have_the_order_of_x(tmp_path):
    def make(n: int, k: int) -> foreign.Made:
        return foreign.gptq(n, k, 4, 32, 2, g_idx=spread(k, 32) if n == 128 else None)

    expected = write_checkpoint(tmp_path / "gptq", make, CONFIGURATION)
    checkpoints.convert(tmp_path / "gptq", tmp_path / "packed", progress=False)
    model = load_model(tmp_path / "packed")
    assert_products(model, expected)
    layers = packed_layers(model).values()
    straight = [torch.equal(layer.order.long(), torch.arange(layer.in_features)) for layer in layers]
    assert straight.count(False) == 4


def test_models_that_are_quantized_now_are_not_reordered(tmp_path):
    small_model().save_pretrained(tmp_path / "plain")
    config = lutsmith.transformers.LutsmithConfig(group=32, reordered=True)
    with pytest.raises(ValueError, match="reordered: True is not allowed for a model that is not packed.*act-order"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "plain", quantization_config=config)
    with pytest.raises(ValueError, match="reordered: 1 is not allowed; allowed: True, False"):
        lutsmith.transformers.LutsmithConfig(reordered=1)
