"""What is made of sums before they are rounded: residuals, biases and gates, on the CPU and by torch's machinery."""

from __future__ import annotations

import pytest
import torch
from reference import assert_right, product, random_weight

import lutsmith
from lutsmith import formats, gpu, packed_rows
from lutsmith.nn import Linear

ACTIVATIONS = {
    "silu": torch.nn.functional.silu,
    "gelu_tanh": lambda gate: torch.nn.functional.gelu(gate, approximate="tanh"),
}


def packed_of(n: int = 48, k: int = 136, seed: int = 0, **options) -> lutsmith.PackedWeight:
    return lutsmith.quantize(random_weight(n, k, seed=seed), **options)


def x_of(*shape: int, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def test_bias_and_residual_are_added_before_the_sum_is_rounded():
    packed = packed_of()
    x = x_of(2, 3, 136)
    sums = product(x, packed)
    residual, bias = -sums.to(torch.float16), x_of(48)
    # All that is left of a sum is what 16 bits cannot hold.
    error = (lutsmith.matmul(x, packed, residual=residual).double() - (sums + residual)).norm()
    assert error < 0.01 * (sums + residual).norm()
    assert_right(lutsmith.matmul(x, packed, bias, residual=x_of(2, 3, 48)), sums + bias + x_of(2, 3, 48))


def test_a_residual_may_lie_where_the_product_goes():
    packed = packed_of()
    x, stream = x_of(5, 136), x_of(5, 48)
    expected = product(x, packed) + stream
    assert lutsmith.matmul(x, packed, residual=stream, out=stream) is stream
    assert_right(stream, expected)
    wide = x_of(5, 64)
    expected = product(x, packed) + wide[:, :48]
    lutsmith.matmul(x, packed, residual=wide[:, :48], out=wide[:, :48])
    assert_right(wide[:, :48], expected)
    assert torch.equal(wide[:, 48:], x_of(5, 64)[:, 48:])


def test_several_weights_have_residuals_of_their_own():
    members = [packed_of(), packed_of(24, seed=1)]
    x = x_of(3, 136)
    residuals = [x_of(3, 48), None]
    one, other = lutsmith.matmul(x, members, residual=residuals)
    assert_right(one, product(x, members[0]) + residuals[0])
    assert_right(other, product(x, members[1]))
    with pytest.raises(lutsmith.Error, match="residual: 1 given for 2 weights"):
        lutsmith.matmul(x, members, residual=residuals[:1])


def test_a_residual_of_another_shape_is_refused():
    with pytest.raises(lutsmith.Error, match=r"residual: torch.float16 \(3, 47\) .*allowed: torch.float16 \(3, 48\)"):
        lutsmith.matmul(x_of(3, 136), packed_of(), residual=x_of(3, 47))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("options", [{"group": 64}, {"bits": 3, "group": "channel"}, {"group": 256}])
def test_gated_products_are_those_of_gate_and_up(activation, options):
    gate, up = packed_of(seed=1, **options), packed_of(seed=2, **options)
    x = x_of(2, 3, 136)
    together = lutsmith.interleave_gate(gate, up)
    assert (together.n, together.k) == (96, 136)
    expected = ACTIVATIONS[activation](product(x, gate)) * product(x, up)
    assert_right(lutsmith.gated_matmul(x, together, activation), expected)


def test_interleaving_keeps_codes_and_scales():
    gate, up = packed_of(24, seed=1), packed_of(24, seed=2)
    together = lutsmith.interleave_gate(gate, up)
    rows = together.dequantize(torch.float32)
    assert torch.equal(rows.unflatten(0, (3, 2, 8))[:, 0].flatten(0, 1), gate.dequantize(torch.float32))
    assert torch.equal(rows.unflatten(0, (3, 2, 8))[:, 1].flatten(0, 1), up.dequantize(torch.float32))


@pytest.mark.parametrize("n", [8, 24, 32, 80])
@pytest.mark.parametrize(
    "options",
    [{"bits": 3, "group": 32}, {"bits": 1, "method": "int"}, {"group": 256}, {"group": "channel"}, {"method": "hqq"}],
)
def test_interleaved_bytes_are_those_of_rows_that_are_packed_in_turn(n, options):
    gate, up = packed_of(n, 264, seed=1, **options), packed_of(n, 264, seed=2, **options)
    together = lutsmith.interleave_gate(gate, up)

    def in_turn(*parts):
        if parts[0] is None:  # offsets
            return None
        return torch.stack([part.unflatten(0, (-1, 8)) for part in parts], 1).flatten(0, 2)

    parts = packed_rows.Parts(*map(in_turn, packed_rows.unpack(gate), packed_rows.unpack(up)))
    expected = packed_rows.pack(parts, formats.known(together.format), gate.device)
    assert torch.equal(together.data, expected.data)
    for member, again in zip((gate, up), packed_rows.separate_gate(together)):
        assert again.format == member.format and torch.equal(again.data, member.data)


@pytest.mark.parametrize(
    ("gate", "up", "message"),
    [
        ({"bits": 4}, {"bits": 3}, "gate and up: bits 4 and 3: not allowed"),
        ({"method": "nf"}, {"method": "int"}, "gate and up: different tables: not allowed"),
        ({"n": 48}, {"n": 40}, "gate and up: N 48 and 40: not allowed"),
        ({"n": 44}, {"n": 44}, "gate: 44 rows are not allowed; allowed: multiples of 8"),
    ],
)
def test_gate_and_up_that_do_not_go_together_are_refused(gate, up, message):
    with pytest.raises(lutsmith.Error, match=message):
        lutsmith.interleave_gate(packed_of(**gate), packed_of(**up))


def test_gates_that_are_none_are_refused():
    with pytest.raises(lutsmith.Error, match="activation: 'relu' is not allowed; allowed: 'silu', 'gelu_tanh'"):
        lutsmith.gated_matmul(x_of(3, 136), packed_of(), "relu")
    with pytest.raises(lutsmith.Error, match="packed: 40 rows are not allowed; allowed: multiples of 16"):
        lutsmith.gated_matmul(x_of(3, 136), packed_of(40))


def test_the_operators_pass_torchs_own_check():
    packed = packed_of()
    x, residual, bias = x_of(3, 136), x_of(3, 48), x_of(48)
    kinds = ("test_schema", "test_faketensor")
    given = (x, packed.data, packed.format, bias, False, residual)
    torch.library.opcheck(torch.ops.lutsmith.matmul.default, given, test_utils=kinds)
    out = torch.empty_like(residual)
    given = (x, packed.data, packed.format, None, out, False, residual)
    torch.library.opcheck(torch.ops.lutsmith.matmul_out.default, given, test_utils=kinds)
    given = (x, packed.data, packed.format, "silu")
    torch.library.opcheck(torch.ops.lutsmith.gated_matmul.default, given, test_utils=kinds)


def test_variants_are_counted_as_c_does():
    assert [gpu.variant_of(True), gpu.variant_of(residual=True), gpu.variant_of(bias=True)] == [1, 2, 4]
    assert [gpu.variant_of(gated=name) for name in ("silu", "gelu_tanh")] == [8, 16]
    for variant in (0, 1, 7, 9, 16):
        assert gpu.variant_of(**gpu.options_of(variant)) == variant
    with pytest.raises(lutsmith.Error, match="gated: 'silu' is not allowed beside a bias"):
        gpu.variant_of(bias=True, gated="silu")


def test_a_layer_with_a_bias_has_kernels_that_add_it():
    layers = torch.nn.Sequential(Linear(packed_of(), x_of(48)), Linear(packed_of(136, 48)))
    assert [kernel.get("bias", False) for kernel in lutsmith.manifest(layers)] == [True, False]
