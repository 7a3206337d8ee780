"""The method "higgs": its grids, codes and scales, and that x is transformed wherever such weights are multiplied."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lutsmith
from lutsmith.gptq import quantize_with_feedback
from lutsmith.hadamard import Hadamard, transform
from lutsmith.nn import FusedLinear, Linear, fuse
from lutsmith.normal_grids import GRIDS
from lutsmith.tensor_parallel import columns, rows
from lutsmith.transformers import LutsmithConfig
from reference import assert_right, product, random_weight
from test_hadamard import of_rows
from test_quantizers import heavy_tailed
from test_transformers import TOKENS, checkpoint, load, logits, packed_layers, relative_error, same_bytes  # noqa: F401

#: Mean squared error for the standard normal distribution: of pairs as computed, of levels by Max, 1960, table I.
ERROR = {"pair": {2: 0.10760, 3: 0.02953, 4: 0.007725}, "scalar": {1: 0.3634, 2: 0.1175, 3: 0.03454, 4: 0.009497}}


class Transforms(TorchDispatchMode):
    """Counts operators, and the transforms of x in them."""

    def __init__(self, monkeypatch) -> None:
        super().__init__()
        self.transforms = 0
        self.products = 0
        from lutsmith import operators

        def counted(*arguments):
            self.transforms += 1
            return transform(*arguments)

        monkeypatch.setattr(operators, "transform", counted)

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.products += operator is torch.ops.lutsmith.matmul.default
        return operator(*args, **(kwargs or {}))


def plane(step: float = 0.02, reach: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """Points and their shares of the normal distribution of the plane, by the midpoint rule."""
    line = np.arange(-reach + step / 2, reach, step)
    points = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    share = np.exp(-(points**2).sum(1) / 2)
    return points, share / share.sum()


def nearest(points: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Index of the nearest of the grid, by all distances."""
    found = []
    for some in np.array_split(points, max(1, len(points) // 20000)):
        found.append(((some[:, None] - grid[None]) ** 2).sum(-1).argmin(1))
    return np.concatenate(found)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_grid_has_the_error_that_is_documented_and_less_than_single_levels(bits):
    grid = np.array(GRIDS[4**bits])
    assert grid.shape == (4**bits, 2)
    points, share = plane(0.03 if bits == 4 else 0.02)
    codes = nearest(points, grid)
    error = (share * ((points - grid[codes]) ** 2).sum(1)).sum() / 2
    assert error == pytest.approx(ERROR["pair"][bits], rel=2e-3)
    assert error < 0.92 * ERROR["scalar"][bits]
    # Of any grid of so many points far away Zador's formula has the least, with a hexagon's moment 5 / (36 sqrt(3)).
    assert error == pytest.approx(5 / (36 * math.sqrt(3)) * 8 * math.pi / 4**bits, rel={2: 0.2, 3: 0.1, 4: 0.03}[bits])


def test_every_pair_is_the_mean_of_what_is_nearest_to_it():
    for bits, allowed in ((2, 3e-3), (3, 6e-3)):  # the rule's steps are 0.02
        grid = np.array(GRIDS[4**bits])
        points, share = plane()
        codes = nearest(points, grid)
        mass = np.bincount(codes, share)
        means = np.stack([np.bincount(codes, share * points[:, axis]) for axis in (0, 1)], 1) / mass[:, None]
        assert np.abs(means - grid).max() < allowed


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("kind", "bits"), [("pair", 2), ("pair", 3), ("pair", 4), ("scalar", 1), ("scalar", 3)])
@pytest.mark.parametrize(("k", "group", "block"), [(1536, 64, 512), (576, 128, 64), (96, "channel", 32)])
def test_codes_and_scales_are_those_of_the_definition(dtype, kind, bits, k, group, block):
    weight = random_weight(9, k, dtype)
    packed = lutsmith.quantize(weight, method="higgs", bits=bits, group=group, table=kind)
    assert packed.hadamard == Hadamard(block, 0) and f" {kind} " in packed.format
    given = of_rows(weight.double().numpy(), packed.hadamard)
    width = k if group == "channel" else group
    padded = np.pad(given, ((0, 0), (0, -k % width)))
    counts = np.pad(np.ones(k), (0, -k % width)).reshape(-1, width).sum(1)
    scales = np.sqrt((padded.reshape(9, -1, width) ** 2).sum(2) / counts)
    stored = packed.scales().double().numpy()
    of_weights = stored.repeat(width, 1)[:, :k]
    assert np.abs(stored / scales - 1).max() <= torch.finfo(dtype).eps * 0.51
    # Nearest, but for what float32 leaves of a tie.
    size = 2 if kind == "pair" else 1
    entries = np.array(packed.table).reshape(-1, size)
    ratios = (given / of_weights).reshape(-1, size)
    made = packed.transformed().dequantize(torch.float32).double().numpy() / of_weights
    made = made.reshape(-1, size)
    least = np.sqrt(((ratios - entries[nearest(ratios, entries)]) ** 2).sum(1))
    assert (np.sqrt(((ratios - made) ** 2).sum(1)) <= least + 1e-5).all()


@pytest.mark.parametrize(("kind", "bits"), [(kind, bits) for kind, errors in ERROR.items() for bits in errors])
def test_error_of_any_weights_is_that_of_the_grid(kind, bits):
    settings = {"method": "higgs", "bits": bits, "group": "channel", "table": kind}
    normal = torch.randn(256, 2048, generator=torch.Generator().manual_seed(1))
    assert lost(normal, **settings) == pytest.approx(ERROR[kind][bits], rel=0.02)
    # Without a transform the same holds of normal weights only.
    assert lost(normal, **settings, hadamard=0) == pytest.approx(ERROR[kind][bits], rel=0.02)
    spiky = heavy_tailed(256, 2048).float()
    assert lost(spiky, **settings) == pytest.approx(ERROR[kind][bits], rel=0.1)
    assert lost(spiky, **settings, hadamard=0) > 1.15 * ERROR[kind][bits]


def lost(weight: torch.Tensor, **settings) -> float:
    made = lutsmith.quantize(weight, **settings).dequantize(torch.float32)
    return float((made.double() - weight.double()).square().sum() / weight.double().square().sum())


def test_codes_do_not_depend_on_threads():
    weight = random_weight(700, 1536)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = lutsmith.quantize(weight, method="higgs", bits=2)
        values = alone.dequantize()
        torch.set_num_threads(4)
        together = lutsmith.quantize(weight, method="higgs", bits=2)
        assert torch.equal(alone.data, together.data)
        assert torch.equal(values, together.dequantize())
    finally:
        torch.set_num_threads(threads)


def test_transform_goes_with_every_table_and_scale():
    weight = heavy_tailed(64, 512)
    transformed = transform(weight.float(), Hadamard(128, 4))
    given = {"table": [0.5, -1.0, 0.25, 1.0], "bits": 2}
    for settings in ({"method": "nf"}, {"method": "int", "scales": "mse"}, given):
        packed = lutsmith.quantize(weight, hadamard=128, seed=4, **settings)
        alone = lutsmith.quantize(transformed, dtype=torch.float16, **settings)
        assert packed.hadamard == Hadamard(128, 4)
        assert torch.equal(packed.data, alone.data)
        assert packed.transformed().format == alone.format
    searched = lutsmith.quantize(weight, method="higgs", bits=2, scales="mse")
    usual = lutsmith.quantize(weight, method="higgs", bits=2)
    assert searched.format == usual.format and not torch.equal(searched.data, usual.data)


def test_importance_of_mixed_channels_is_their_mean():
    weight = heavy_tailed(32, 128)
    importance = torch.cat([torch.rand(64) * 2, torch.rand(64) * 200])
    means = importance.reshape(2, 64).mean(1).repeat_interleave(64)
    settings = {"method": "higgs", "bits": 2, "group": "channel", "scales": "mse", "hadamard": 64}
    weighed = lutsmith.quantize(weight, importance=importance, **settings)
    assert torch.equal(weighed.data, lutsmith.quantize(weight, importance=means, **settings).data)
    assert not torch.equal(weighed.data, lutsmith.quantize(weight, **settings).data)
    importance[70] = -1
    with pytest.raises(lutsmith.Error, match="importance: -1 at index 70"):
        lutsmith.quantize(weight, importance=importance, **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"table": "triple"}, ["'triple'", "'pair', 'scalar'"]),
        ({"table": [0.0] * 16}, ["values of your own", "'pair', 'scalar'"]),
        ({"bits": 1}, ["bits: 1", "2, 3, 4", "table='scalar'"]),
        ({"bits": 5}, ["bits: 5"]),
        ({"hadamard": 100}, ["hadamard: 100", "1024"]),
        ({"method": "nf", "table": "pair"}, ["table: 'pair'", "method nf"]),
    ],
)
def test_settings_that_are_not_allowed_are_refused_with_those_that_are(settings, words):
    with pytest.raises(lutsmith.Error) as refused:
        lutsmith.quantize(random_weight(32, 64), **{"method": "higgs", **settings})
    for word in words:
        assert word in str(refused.value)


def test_weights_that_are_not_finite_are_named_by_their_place():
    weight = random_weight(32, 128)
    weight[3, 77] = float("nan")
    with pytest.raises(lutsmith.Error, match="nan at row 3, column 77"):
        lutsmith.quantize(weight, method="higgs")


def test_feedback_refuses_weights_that_it_would_have_to_transform():
    with pytest.raises(lutsmith.Error, match="method: 'higgs' is not allowed with feedback"):
        quantize_with_feedback(random_weight(32, 64), torch.eye(64), method="higgs", table="scalar")


# Products and what carries weights.


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_product_is_that_of_the_matrix_in_its_own_basis(dtype):
    weight = random_weight(48, 576, dtype)
    packed = lutsmith.quantize(weight, method="higgs", bits=4)
    assert float((packed.dequantize(torch.float32) - weight.float()).norm() / weight.float().norm()) < 0.1
    x = torch.randn(2, 3, 576, dtype=dtype)
    bias = torch.randn(48, dtype=dtype)
    assert_right(lutsmith.matmul(x, packed), product(x, packed))
    assert_right(lutsmith.matmul(x, packed, bias), product(x, packed) + bias.double())
    out = torch.empty(2, 48, dtype=dtype)
    assert lutsmith.matmul(x[:, 0], packed, out=out, batch_invariant=True) is out
    assert_right(out, product(x[:, 0], packed))
    already = transform(x, packed.hadamard)
    assert torch.equal(lutsmith.matmul(already, packed.transformed()), lutsmith.matmul(x, packed))
    for wrong in (60, 64):
        x = torch.zeros(2, wrong, dtype=dtype)
        for weights in (packed, [packed]):
            with pytest.raises(lutsmith.Error, match=rf"x: shape \(2, {wrong}\)"):
                lutsmith.matmul(x, weights)


def test_several_weights_transform_x_once_for_each_transform(monkeypatch):
    weight = random_weight(32, 192)
    made = [lutsmith.quantize(weight, method="higgs", bits=bits, seed=seed) for bits, seed in ((2, 0), (4, 0), (3, 9))]
    members = [*made, lutsmith.quantize(weight)]
    x = torch.randn(3, 192, dtype=torch.float16)
    with Transforms(monkeypatch) as counted:
        products = lutsmith.matmul(x, members)
    assert (counted.transforms, counted.products) == (2, 4)
    for y, member in zip(products, members):
        assert torch.equal(y, lutsmith.matmul(x, member))
    compiled = torch.compile(lambda x: lutsmith.matmul(x, members), fullgraph=True, backend="eager")
    assert all(map(torch.equal, compiled(x), products))


def test_matrix_outlives_state_dict_pickle_codes_and_text():
    packed = lutsmith.quantize(random_weight(33, 96), method="higgs", bits=3, seed=12)
    parts = (packed.codes(), packed.scales(), packed.table, packed.group, packed.bits)
    for copy in (
        lutsmith.PackedWeight.from_state_dict(packed.state_dict()),
        pickle.loads(pickle.dumps(packed)),
        lutsmith.PackedWeight.from_codes(*parts, hadamard=packed.hadamard),
    ):
        assert copy.format == packed.format and copy.hadamard == Hadamard(32, 12)
        assert torch.equal(copy.dequantize(), packed.dequantize())
    assert "h32:12" in repr(packed)
    with pytest.raises(lutsmith.Error, match="blocks of 64 are not allowed with K = 96"):
        lutsmith.PackedWeight.from_codes(*parts, hadamard=Hadamard(64))


def test_kernels_are_those_of_weights_without_a_transform():
    weight = random_weight(32, 96)
    packed = lutsmith.quantize(weight, method="higgs", bits=3)
    assert lutsmith.manifest(packed) == lutsmith.manifest(packed.transformed())


def test_layer_keeps_the_transform_in_state_dicts_and_exported(tmp_path):
    torch.manual_seed(3)
    layer = Linear.from_linear(torch.nn.Linear(96, 48).half(), method="higgs", bits=3, hadamard=16, seed=8)
    assert layer.packed_weights()[0].hadamard == Hadamard(16, 8)
    assert "hadamard=16" in repr(layer)
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    other = Linear.from_linear(torch.nn.Linear(96, 48).half(), method="higgs", bits=3)
    other.load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    x = torch.randn(3, 96, dtype=torch.float16)
    assert other.format == layer.format
    assert torch.equal(other(x), layer(x))
    assert torch.equal(torch.export.export(layer, (x,)).module()(x), layer(x))
    assert_right(layer(x), layer.to_linear(torch.float32).double()(x.double()))


def test_parts_for_several_gpus_add_up_to_the_whole():
    packed = lutsmith.quantize(random_weight(96, 576), method="higgs", bits=4, group=128)
    x = torch.randn(5, 576, dtype=torch.float16)
    whole = lutsmith.matmul(x, packed)
    by_rows = [rows(packed, 0, 40), rows(packed, 40, 96)]
    assert torch.equal(torch.cat(lutsmith.matmul(x, by_rows), 1), whole)
    assert torch.equal(lutsmith.matmul(x, lutsmith.concatenate(by_rows)), whole)
    cuts = (0, 192, 320, 576)  # the second inside a group
    parts = [columns(packed, start, stop) for start, stop in zip(cuts, cuts[1:])]
    assert {part.weight.hadamard for part in parts} == {packed.hadamard}
    total = sum(part.matmul(x[:, start:stop]).double() for part, start, stop in zip(parts, cuts, cuts[1:]))
    assert_right(total.half(), product(x, packed))
    small = lutsmith.quantize(random_weight(32, 576), method="higgs", bits=4, group=256, hadamard=8)
    part = columns(small, 72, 200)
    assert part.front > 0
    assert_right(part.matmul(x[:, 72:200]), product(x[:, 72:200].contiguous(), part_of(small, 72, 200)))


class part_of:  # noqa: N801
    """Columns of what is dequantized."""

    def __init__(self, packed: lutsmith.PackedWeight, start: int, stop: int) -> None:
        self.values = packed.dequantize(torch.float32)[:, start:stop]

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        return self.values


@pytest.mark.parametrize(
    ("start", "stop", "advice"), [(0, 96, "hadamard=32"), (200, 576, "hadamard=8"), (4, 64, "hadamard=0")]
)
def test_columns_inside_a_block_are_refused(start, stop, advice):
    packed = lutsmith.quantize(random_weight(32, 576), method="higgs", bits=4)
    with pytest.raises(lutsmith.Error, match=f"columns: {start} to {stop} .* multiples of 64, .*{advice}"):
        columns(packed, start, stop)


def test_fused_layers_transform_x_once_and_others_stay_apart(monkeypatch):
    def layer(seed: int) -> Linear:
        return Linear.from_linear(torch.nn.Linear(96, 32).half(), method="higgs", bits=4, seed=seed)

    layers = [layer(0), layer(0)]
    x = torch.randn(3, 96, dtype=torch.float16)
    expected = [each(x) for each in layers]
    fused = FusedLinear(layers)
    with Transforms(monkeypatch) as counted:
        results = fused(x)
    assert (counted.transforms, counted.products) == (1, 1)
    assert all(map(torch.equal, results, expected))
    assert FusedLinear([layer(0), layer(1)]).apart == "hadamard h32:0 and h32:1"
    plain = Linear.from_linear(torch.nn.Linear(96, 32).half(), method="higgs", bits=4, hadamard=0)
    with pytest.raises(lutsmith.Error, match="members: hadamard h32:0 and None: not allowed"):
        lutsmith.concatenate(layer(0).packed_weights() + plain.packed_weights())


@pytest.mark.parametrize("config", [{"bits": 3}, {"bits": 2, "table": "scalar", "hadamard": 16, "seed": 5}], ids=str)
def test_model_is_saved_and_loaded_with_its_transforms(checkpoint, tmp_path, config):  # noqa: F811
    path, original = checkpoint("llama", num_key_value_heads=4)
    model = load(path, LutsmithConfig(method="higgs", group=32, **config))
    block = config.get("hadamard", 32)
    assert {layer.packed_weights()[0].hadamard for layer in packed_layers(model).values()} == {
        Hadamard(block, config.get("seed", 0))
    }
    for name, layer in packed_layers(model).items():
        weight = original.get_submodule(name).weight.detach()
        assert torch.equal(layer.weight, lutsmith.quantize(weight, method="higgs", group=32, **config).data)
    model.save_pretrained(tmp_path / "packed")
    again = load(tmp_path / "packed")
    assert same_bytes(model, again)
    assert torch.equal(logits(model), logits(again))
    fused = load(tmp_path / "packed")
    assert not fuse(fused).apart
    # Gates multiply before they are rounded.
    assert relative_error(logits(fused), logits(model)) < 2e-3
    plain = load(tmp_path / "packed").dequantize()
    assert not packed_layers(plain)
    assert relative_error(logits(plain.float()), logits(model)) < 5e-3


def test_configuration_refuses_what_a_layer_would():
    for wrong in ({"hadamard": 48}, {"seed": -1}, {"table": "triple"}, {"bits": 1}):
        with pytest.raises(ValueError, match="LutsmithConfig: "):
            LutsmithConfig(method="higgs", **wrong)
