"""Random Hadamard transforms, against their definition in float64, written anew in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import lutsmith
from lutsmith import formats, hadamard
from lutsmith.hadamard import Hadamard

BLOCKS = [8, 64, 512, 1024]


def splitmix(seed: int, count: int) -> np.ndarray:
    """The first numbers of SplitMix64."""
    with np.errstate(over="ignore"):
        state = np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, count + 1, dtype=np.uint64)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))


def defined(transform: Hadamard) -> np.ndarray:
    """D H / sqrt(b) [block, block], float64, for rows on its left."""
    words = splitmix(transform.seed, max(1, transform.block // 64))
    bits = (words[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    signs = 1.0 - 2.0 * bits.reshape(-1)[: transform.block].astype(np.float64)
    places = np.arange(transform.block)
    common = np.array([[bin(row & column).count("1") for column in places] for row in places])
    return signs[:, None] * (-1.0) ** common / math.sqrt(transform.block)


def of_rows(rows: np.ndarray, transform: Hadamard) -> np.ndarray:
    blocks = rows.reshape(*rows.shape[:-1], rows.shape[-1] // transform.block, transform.block)
    return (blocks @ defined(transform)).reshape(rows.shape)


def random_rows(n: int, k: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(5)).to(dtype)


def relative_error(given: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.linalg.norm(given.double().numpy() - expected) / np.linalg.norm(expected))


ROUNDING = {torch.float32: 1e-6, torch.float16: 4e-4, torch.bfloat16: 3e-3}


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("block", BLOCKS)
def test_transform_is_that_of_the_definition(block, dtype):
    chosen = Hadamard(block, seed=2**63 - 2)
    x = random_rows(6, 2 * block, dtype)
    expected = of_rows(x.double().numpy(), chosen)
    assert relative_error(hadamard.transform(x, chosen), expected) < ROUNDING[dtype]
    # The way that a GPU takes; here the same arithmetic on the CPU.
    assert relative_error(hadamard.by_matrix(x, chosen), expected) < ROUNDING[dtype]


@pytest.mark.parametrize("block", BLOCKS)
def test_transform_is_orthogonal_and_its_inverse_undoes_it(block):
    chosen = Hadamard(block, 3)
    matrix = hadamard.transform(torch.eye(block), chosen)
    assert (matrix @ matrix.t() - torch.eye(block)).abs().max() < 1e-6
    x = random_rows(5, 3 * block)
    assert (hadamard.inverse(hadamard.transform(x, chosen), chosen) - x).abs().max() < 4e-6
    assert (hadamard.transform(hadamard.inverse(x, chosen), chosen) - x).abs().max() < 4e-6


def test_seeds_give_other_signs_and_the_same_seed_the_same():
    x = random_rows(2, 256)
    first = hadamard.transform(x, Hadamard(256, 0))
    assert torch.equal(first, hadamard.transform(x, Hadamard(256, 0)))
    assert not torch.allclose(first, hadamard.transform(x, Hadamard(256, 1)))
    ones = [sign for seed in range(8) for sign in hadamard.signs(Hadamard(1024, seed))].count(1)
    assert 0.47 < ones / 8192 < 0.53


def test_an_outlier_is_shared_by_its_block_and_by_no_other():
    x = torch.zeros(1, 512)
    x[0, 300] = 16.0
    y = hadamard.transform(x, Hadamard(256, 0))
    assert torch.equal(y[0, :256], torch.zeros(256))
    assert torch.equal(y[0, 256:].abs(), torch.ones(256))


def test_results_do_not_depend_on_rows_beside_them_nor_on_threads():
    chosen = Hadamard(64, 0)
    x = random_rows(40000, 64, torch.float16)  # of several slabs
    whole = hadamard.transform(x, chosen)
    for row in (0, 17000, 39999):
        assert torch.equal(hadamard.transform(x[row : row + 1], chosen), whole[row : row + 1])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(hadamard.transform(x, chosen), whole)
    finally:
        torch.set_num_threads(threads)


def test_strides_and_leading_dimensions_are_honoured():
    chosen = Hadamard(32, 0)
    wide = random_rows(12, 192)
    for x in (wide[:, 64:128], wide[::2, :96], wide.t()[:96, :8].t(), wide.reshape(2, 6, 192), wide[0], wide[:0]):
        expected = of_rows(x.double().numpy(), chosen)
        y = hadamard.transform(x, chosen)
        assert y.shape == x.shape
        assert np.allclose(y.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("k", "block"), [(576, 64), (1536, 512), (4096, 1024), (96, 32)])
def test_block_is_the_largest_power_of_two_that_divides(k, block):
    assert hadamard.fitting(1024, 7, k) == Hadamard(block, 7)
    assert hadamard.fitting(16, 0, k) == Hadamard(16, 0)
    assert hadamard.fitting(0, 0, k) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((48, 0, 96), ["hadamard: 48", "0 (no transform), 8, 16"]),
        ((2048, 0, 4096), ["hadamard: 2048", "1024"]),
        ((True, 0, 96), ["hadamard: True"]),
        ((64, -1, 96), ["seed: -1", "2**63 - 1"]),
        ((64, 2**63, 96), ["seed", "2**63 - 1"]),
        ((64, 0.5, 96), ["seed: 0.5"]),
        ((64, 0, 12), ["K = 12", "multiple of 8"]),
    ],
)
def test_transforms_that_there_are_not_are_refused(arguments, words):
    with pytest.raises(lutsmith.Error) as refused:
        hadamard.fitting(*arguments)
    for word in words:
        assert word in str(refused.value)


def test_line_of_a_format_has_the_transform():
    line = "v1 w1 g32 32x96 f16 scalar bc003c00"
    for word in ("h32:0", "h8:77", "h16:-1"):
        known = formats.known(f"{line} {word}")
        assert str(known.hadamard) == word and known.line == f"{line} {word}"
        assert known.plain is formats.known(line) and known.core is known.plain.core
        assert known.describe() == f"w1 g32 32x96 f16 scalar {word}"
        assert known.with_shape(64, 192).line == f"v1 w1 g32 64x192 f16 scalar bc003c00 {word}"
    for word in ("h64:0", "h4:0", "h032:0", "h32", "32:0", "h32:0 h32:0", "h32:-2", "x32:0", f"h32:{2**63}", ""):
        with pytest.raises(lutsmith.Error, match="format|hadamard|seed"):
            formats.known(f"{line} {word}")


def test_operator_is_the_function_and_can_be_exported():
    class Module(torch.nn.Module):
        def forward(self, x):
            return torch.ops.lutsmith.hadamard(x, 32, 5)

    x = random_rows(3, 96, torch.float16)
    assert torch.equal(Module()(x), hadamard.transform(x, Hadamard(32, 5)))
    assert torch.equal(torch.export.export(Module(), (x,)).module()(x), Module()(x))


def test_transform_without_signs_is_sylvesters_matrix_alone():
    matrix = torch.ones(1, 1)
    while matrix.shape[0] < 64:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    plain = Hadamard(64, hadamard.NO_SIGNS)
    assert torch.equal(hadamard.transform(torch.eye(64), plain) * 8, matrix)
    assert torch.equal(hadamard.matrix_of(plain, torch.float16, torch.device("cpu")), matrix.half())
    with pytest.raises(lutsmith.Error, match="seed: -1 is not allowed"):
        hadamard.fitting(64, hadamard.NO_SIGNS, 64)
