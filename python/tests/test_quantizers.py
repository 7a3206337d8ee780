"""Scales by least squared error, learned tables, and what they gain."""

from __future__ import annotations

import warnings

import pytest
import torch

import lutsmith
from reference import random_weight


def heavy_tailed(n: int, k: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(n, k, generator=generator)
    return (normal / torch.randn(4, n, k, generator=generator).square().mean(0).sqrt() * 0.02).half()


def error(weight: torch.Tensor, packed: lutsmith.PackedWeight, importance: torch.Tensor | None = None) -> float:
    square = (packed.dequantize(torch.float32).double() - weight.double()) ** 2
    return float((square if importance is None else square * importance).sum())


@pytest.mark.parametrize("method", ["nf", "int", "lloyd"])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_searched_scales_leave_less_error_than_the_absolute_maximum(method, bits):
    weight = heavy_tailed(64, 512)
    settings = {"method": method, "bits": bits, "group": 64}
    absmax = lutsmith.quantize(weight, scales="absmax", **settings)
    mse = lutsmith.quantize(weight, scales="mse", **settings)
    assert mse.format == absmax.format
    assert error(weight, mse) < 0.95 * error(weight, absmax)
    usual = lutsmith.quantize(weight, **settings)
    assert torch.equal(usual.data, (mse if method == "lloyd" else absmax).data)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_learned_table_leaves_less_error_than_every_fixed_one(bits):
    weight = heavy_tailed(64, 512)
    learned = lutsmith.quantize(weight, method="kmeans", bits=bits)
    assert list(learned.table) == sorted(learned.table) and max(map(abs, learned.table)) == 1
    for method in ("int", "lloyd") if bits == 1 else ("nf", "int", "lloyd"):
        fixed = lutsmith.quantize(weight, method=method, bits=bits, scales="mse")
        assert error(weight, learned) < error(weight, fixed), method
    # Its values are a table as every other.
    again = lutsmith.quantize(weight, bits=bits, table=learned.table, scales="mse")
    assert again.format == learned.format and torch.equal(again.data, learned.data)


@pytest.mark.parametrize("method", ["nf", "kmeans"])
def test_importance_lowers_the_error_that_it_weighs(method):
    weight = heavy_tailed(64, 512)
    importance = torch.randn(512, generator=torch.Generator().manual_seed(3)).mul(2).exp()
    settings = {"method": method, "bits": 3, "scales": "mse"}
    plain = lutsmith.quantize(weight, **settings)
    weighed = lutsmith.quantize(weight, importance=importance, **settings)
    assert error(weight, weighed, importance) < 0.97 * error(weight, plain, importance)


def test_learned_table_without_importance_is_warned_of():
    weight = heavy_tailed(32, 64)
    with pytest.warns(UserWarning, match='"kmeans" without importance'):
        lutsmith.quantize(weight, method="kmeans", bits=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lutsmith.quantize(weight, method="kmeans", bits=2, importance=torch.ones(64))
        lutsmith.quantize(weight, method="lloyd", bits=2)


def test_learned_tables_do_not_depend_on_threads():
    weight = random_weight(600, 512)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = lutsmith.quantize(weight, method="kmeans", bits=2)
        torch.set_num_threads(4)
        together = lutsmith.quantize(weight, method="kmeans", bits=2)
    finally:
        torch.set_num_threads(threads)
    assert alone.format == together.format and torch.equal(alone.data, together.data)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scales": "best"}, ["scales", "'best'", "absmax, mse, rms"]),
        ({"method": "kmeans", "scales": "absmax"}, ["absmax", "kmeans", "mse"]),
        ({"importance": torch.ones(63)}, ["importance", "63", "64"]),
        ({"importance": [1.0] * 64}, ["importance", "list", "[64]"]),
        ({"importance": -torch.ones(64), "scales": "mse"}, ["importance", "-1", "index 0"]),
    ],
)
def test_settings_that_are_not_allowed_are_refused_with_those_that_are(arguments, words):
    with pytest.raises(lutsmith.Error) as refused:
        lutsmith.quantize(random_weight(32, 64), **arguments)
    for word in words:
        assert word in str(refused.value)
