"""Rounding with error feedback."""

from __future__ import annotations

import weakref

import pytest
import torch

import lutsmith
from lutsmith.gptq import output_error, quantize_with_feedback
from reference import random_weight

N, K = 48, 328  # neither blocks of columns nor groups divide K


def activations(tokens: int = 1024, seed: int = 1) -> torch.Tensor:
    """Channels that go together, a few of them large: what feedback lives from."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, K // 4, generator=generator, dtype=torch.float64)
    mixed = hidden @ torch.randn(K // 4, K, generator=generator, dtype=torch.float64) / (K / 4) ** 0.5
    noise = torch.randn(tokens, K, generator=generator, dtype=torch.float64) * 0.3
    return (mixed + noise) * torch.randn(K, generator=generator, dtype=torch.float64).exp()


def relative(x: torch.Tensor, weight: torch.Tensor, quantized: torch.Tensor) -> float:
    """By the definition: of products, in float64."""
    expected = x @ weight.double().T
    return float(((x @ quantized.double().T - expected).square().sum() / expected.square().sum()).detach())


def feedback_column_by_column(weight, hessian, packed, group, damping, static):
    """Algorithm 1 without blocks, solving for the best change of all later columns.

    With the scales of `packed`, or with the absolute maximum of a group when its first column is reached.
    """
    weight = weight.double().clone()
    k = weight.shape[1]
    damped = hessian.double() + damping * hessian.double().diagonal().mean() * torch.eye(k, dtype=torch.float64)
    table = torch.tensor(packed.table, dtype=torch.float64)
    scales = packed.scales()
    result = torch.empty_like(weight)
    for column in range(k):
        if not static and column % group == 0:
            largest = weight[:, column : column + group].abs().amax(1)
            scales[:, column // group] = largest / table.abs().max()
        scale = scales[:, column // group].double()
        nearest = (weight[:, column : column + 1] / scale.unsqueeze(1) - table).abs().argmin(1)
        result[:, column] = scale * table[nearest]
        error = weight[:, column] - result[:, column]
        # The change of later columns that makes up best for this one's error: H_later change = H_later,column error.
        later = damped[column + 1 :, column + 1 :]
        if later.numel():
            change = torch.linalg.solve(later, damped[column + 1 :, column])
            weight[:, column + 1 :] += error.unsqueeze(1) * change.unsqueeze(0)
    return result


@pytest.mark.parametrize("method", ["nf", "int", "kmeans", "lloyd"])
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("group", [64, 256, "channel"])
def test_products_are_never_worse_than_rounded_to_nearest(method, bits, group):
    weight = random_weight(N, K)
    x = activations()
    hessian = x.T @ x
    for static in (False, True):
        made = quantize_with_feedback(weight, hessian, method, bits, group, static_scales=static)
        nearest = lutsmith.quantize(weight, method, bits, group, importance=hessian.diagonal())
        assert made.packed.format == nearest.format
        of_nearest = relative(x, weight, nearest.dequantize(torch.float32))
        of_made = relative(x, weight, made.packed.dequantize(torch.float32))
        assert of_made <= of_nearest
        assert of_made == pytest.approx(made.output_error, rel=1e-3)
        assert of_nearest == pytest.approx(made.nearest_output_error, rel=1e-3)
        assert not made.kept_nearest and of_made < 0.75 * of_nearest


@pytest.mark.parametrize("group", [32, 256])
@pytest.mark.parametrize("static", [True, False])
def test_it_is_the_papers_algorithm(static, group):
    weight = random_weight(N, K, torch.float32)
    x = activations()
    hessian = x.T @ x
    made = quantize_with_feedback(weight, hessian, bits=3, group=group, static_scales=static, damping=0.01)
    nearest = lutsmith.quantize(weight, bits=3, group=group)
    expected = feedback_column_by_column(weight, hessian, nearest, group, 0.01, static)
    got = made.packed.dequantize(torch.float32).double()
    # Sums in another order round a weight that is halfway to another entry, and what follows with it.
    assert (got == expected).double().mean() > 0.98
    assert relative(x, weight, got) == pytest.approx(relative(x, weight, expected), rel=0.03)


def few_and_many() -> tuple[torch.Tensor, torch.Tensor]:
    """Hessians of fewer tokens than channels, and of many more of the same kind, whose channels hardly go together."""
    generator = torch.Generator().manual_seed(7)
    x = activations(64 + 8192) + 2 * torch.randn(64 + 8192, K, generator=generator, dtype=torch.float64)
    return x[:64].T @ x[:64], x[64:].T @ x[64:]


def test_little_damping_learns_few_tokens_by_heart():
    weight = random_weight(N, K)
    few, many = few_and_many()
    settings = {"method": "nf", "bits": 3}
    nearest = lutsmith.quantize(weight, method="nf", bits=3)
    by_heart = quantize_with_feedback(weight, few, damping=0.01, **settings)
    usual = quantize_with_feedback(weight, few, **settings)
    assert by_heart.damping == 0.01 and by_heart.output_error < usual.output_error < usual.nearest_output_error
    of_nearest = output_error(weight, nearest, many)
    of_usual, of_by_heart = (output_error(weight, each.packed, many) for each in (usual, by_heart))
    assert of_usual < of_by_heart and of_by_heart > of_nearest
    # With tokens that judge: neither worse than the nearest nor than what goes by heart.
    judged = quantize_with_feedback(weight, few, held_out=many, **settings)
    assert judged.output_error == pytest.approx(output_error(weight, judged.packed, many))
    assert judged.nearest_output_error == pytest.approx(of_nearest)
    assert judged.output_error <= min(of_nearest, of_usual, of_by_heart)


def test_tokens_that_tell_nothing_keep_the_nearest():
    weight = random_weight(N, K)
    made = quantize_with_feedback(weight, torch.zeros(K, K))
    assert made.kept_nearest and made.output_error == 0
    # Channels that are independent have nothing to make up with.
    apart = quantize_with_feedback(weight, torch.eye(K))
    assert apart.kept_nearest
    assert torch.equal(apart.packed.data, lutsmith.quantize(weight).data)


def test_channels_that_no_token_reaches_do_no_harm():
    weight = random_weight(N, K)
    x = activations()
    x[:, 7:80] = 0
    hessian = (x.T @ x).float()
    made = quantize_with_feedback(weight, hessian, bits=3)
    assert output_error(weight, made.packed, hessian) < made.nearest_output_error
    assert made.packed.dequantize(torch.float32).isfinite().all()


def test_columns_next_to_nothing_keep_scales_that_16_bits_hold():
    weight = random_weight(N, K, torch.float32)
    weight[:, 64:128] *= 1e-6
    weight[:, 128:192] = 0
    x = activations()
    x[:, 64:192] = 0
    made = quantize_with_feedback(weight, x.T @ x, method="int", static_scales=False)
    assert made.output_error < made.nearest_output_error


def test_copies_of_a_gpus_bytes_live_while_they_are_read(monkeypatch):
    weight = random_weight(N, K)
    x = activations()
    expected = quantize_with_feedback(weight, x.T @ x)

    def copied(tensor):
        """As of a tensor on a GPU: memory of its own, which others have as soon as nothing holds it."""
        copy = tensor.clone()
        weakref.finalize(copy, copy.untyped_storage().fill_, 0)
        return copy

    monkeypatch.setattr(torch.Tensor, "cpu", copied)
    made = quantize_with_feedback(weight, x.T @ x)
    monkeypatch.undo()
    assert torch.equal(made.packed.data, expected.packed.data)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"hessian": torch.eye(K - 8)}, ["hessian", "(320, 320)", "[328, 328]"]),
        ({"hessian": torch.eye(K).half()}, ["hessian", "torch.float16", "torch.float64"]),
        ({"hessian": -torch.eye(K)}, ["hessian", "positive definite", "damping"]),
        ({"damping": 0.0}, ["damping", "0.0", "0.1"]),
        ({"weight": [[1.0]]}, ["weight", "list", "[N, K]"]),
        ({"held_out": torch.eye(K - 8)}, ["held_out", "(320, 320)", "[328, 328]"]),
        ({"table": [0.0, 1.0] * 16, "bits": 2}, ["pairs", "one value"]),
    ],
)
def test_what_cannot_be_fed_back_is_refused(arguments, words):
    with pytest.raises(lutsmith.Error) as refused:
        quantize_with_feedback(**{"weight": random_weight(N, K), "hessian": torch.eye(K), **arguments})
    for word in words:
        assert word in str(refused.value)
