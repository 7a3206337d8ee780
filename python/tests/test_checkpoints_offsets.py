"""Zero points of other libraries' checkpoints, made by hand in foreign.py, as offsets beside the scales."""

from __future__ import annotations

import pytest
import torch

import foreign
import lutsmith
from lutsmith import checkpoints
from test_checkpoints import BF16, F16, NAME, assert_exact, load, relative

N, K, GROUP = 40, 256, 64


def random_zeros(low: int, high: int) -> torch.Tensor:
    """[N, groups], both ends among them."""
    zeros = torch.randint(low, high + 1, (N, K // GROUP), generator=foreign.generator(5))
    zeros[0, :2] = torch.tensor([low, high])
    return zeros


def zeros_near(middle: int, bits: int) -> torch.Tensor:
    """Of which middle - zero is 0 or a power of two."""
    near = [middle + away for away in (0, 1, -1, 2, -2, 4, -4, -8) if 0 <= middle + away < 2**bits]
    return torch.tensor(near)[torch.randint(len(near), (N, K // GROUP), generator=foreign.generator(6))]


def gptq(version: int, bits: int):
    def make(zeros: torch.Tensor) -> tuple[foreign.Made, dict[str, object]]:
        config = {"bits": bits, "group_size": GROUP, "checkpoint_format": "gptq_v2" if version == 2 else "gptq"}
        return foreign.gptq(N, K, bits, GROUP, version, zeros=zeros), config

    return make


def awq(zeros: torch.Tensor) -> tuple[foreign.Made, dict[str, object]]:
    return foreign.awq(N, K, GROUP, zeros=zeros), {"group_size": GROUP}


def pack_quantized(bits: int, dtype: torch.dtype):
    return lambda zeros: (foreign.pack_quantized(N, K, bits, GROUP, dtype, zeros=zeros), {})


FORMATS = [
    pytest.param(gptq(1, 4), 4, F16, id="GPTQ v1, 4 bits"),
    pytest.param(gptq(2, 4), 4, F16, id="GPTQ v2, 4 bits"),
    pytest.param(gptq(2, 3), 3, F16, id="GPTQ v2, 3 bits"),
    pytest.param(gptq(1, 2), 2, F16, id="GPTQ v1, 2 bits"),
    pytest.param(awq, 4, F16, id="AWQ"),
    pytest.param(pack_quantized(4, F16), 4, F16, id="compressed-tensors, 4 bits, f16"),
    pytest.param(pack_quantized(4, BF16), 4, BF16, id="compressed-tensors, 4 bits, bf16"),
    pytest.param(pack_quantized(3, BF16), 3, BF16, id="compressed-tensors, 3 bits, bf16"),
]


@pytest.mark.parametrize(("make", "bits", "dtype"), FORMATS)
def test_zero_points_near_the_middle_are_exact(tmp_path, make, bits, dtype):
    made, config = make(zeros_near(2 ** (bits - 1), bits))
    loaded = load(foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), config))
    packed = assert_exact(loaded, made)
    assert packed.has_offsets and (packed.bits, packed.group, packed.dtype) == (bits, GROUP, dtype)
    # As the library itself multiplies, in its 16-bit type.
    assert torch.equal(packed.dequantize(), made.weights.to(torch.float32).to(dtype))


@pytest.mark.parametrize(("make", "bits", "dtype"), FORMATS)
def test_any_zero_points_lose_the_rounding_of_offsets(tmp_path, make, bits, dtype):
    zeros = random_zeros(0, 2**bits - 1)
    zeros[:, 3] = 2 ** (bits - 1) - 1
    made, config = make(zeros)
    loaded = load(foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), config))
    packed = loaded[f"{NAME}.weight"]
    scales = next(tensor for name, tensor in made.tensors.items() if "scale" in name)
    scales = (scales if scales.shape == zeros.shape else scales.t()).double()
    assert torch.equal(packed.codes().long(), made.codes)
    assert torch.equal(packed.scales().double(), scales)

    middle = 2 ** (bits - 1)
    exact = scales * (middle - zeros)
    rounded = exact.to(dtype).double()  # of numbers that float32 holds
    assert torch.equal(packed.offsets().double(), rounded)
    expected = made.weights + (rounded - exact).repeat_interleave(GROUP, dim=1)
    assert torch.equal(packed.dequantize(torch.float32), expected.float())
    same = (rounded == exact).repeat_interleave(GROUP, dim=1)
    assert same[:, 3 * GROUP :].all()
    assert torch.equal(packed.dequantize()[same], made.weights.to(torch.float32).to(dtype)[same])

    (loss,) = loaded.report.losses
    difference = (expected - made.weights).abs()
    if bits == 2:  # 2 - zero is a power of two whatever it is
        assert loss.how == "exact" and not difference.any()
        return
    assert loss.how == "rounded"
    assert loss.largest == pytest.approx(difference.max().item(), rel=1e-6)
    assert loss.relative_error == pytest.approx(relative(expected, made.weights), rel=1e-4)
    assert loss.relative_error < {F16: 2**-12, BF16: 2**-9}[dtype]
    assert f"rounded, error {loss.relative_error:.2e}" in str(loaded.report)
    assert f"largest difference of a weight {loss.largest:.2e}" in str(loaded.report)


def test_type_that_holds_neither_scales_nor_offsets_is_measured(tmp_path):
    made, config = awq(random_zeros(5, 11))
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), config)
    loaded = load(path, dtype=BF16)
    packed = loaded[f"{NAME}.weight"]
    assert packed.dtype == BF16 and packed.has_offsets
    error = relative(packed.dequantize(torch.float32), made.weights)
    assert 2**-11 < error < 2**-8
    assert loaded.report.relative_error == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize("dtype", [F16, BF16])
def test_zero_points_of_larger_groups_are_repeated_with_their_scales(tmp_path, dtype):
    zeros = torch.tensor([[6], [9]] * 16)
    made = foreign.pack_quantized(32, 96, 4, 0, dtype, zeros=zeros)
    assert assert_exact(load(foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME))), made).group == 0
    made = foreign.gptq(32, 192, 4, 96, 2, zeros=torch.tensor([[6, 7], [9, 8]] * 16), dtype=dtype)
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), {"checkpoint_format": "gptq_v2"})
    assert assert_exact(load(path), made).group == 32


def test_zero_points_follow_the_order_of_whole_groups(tmp_path):
    config = {"bits": 4, "group_size": GROUP}
    zeros = torch.tensor([[6, 7, 8, 9]] * N)
    made = foreign.gptq(N, K, 4, GROUP, zeros=zeros, g_idx=[group for group in (2, 0, 3, 1) for _ in range(GROUP)])
    packed = assert_exact(load(foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), config)), made)
    assert packed.has_offsets


def test_version_without_a_configuration_is_not_guessed(tmp_path):
    made, _ = gptq(1, 4)(random_zeros(4, 12))
    with pytest.raises(lutsmith.Error, match="names the version"):
        load(foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME)))


def test_scales_and_offsets_beyond_a_types_range_are_refused(tmp_path):
    def written(factor: float):
        made = foreign.pack_quantized(N, K, 4, GROUP, BF16, zeros=random_zeros(0, 15))
        made.tensors["weight_scale"] *= factor
        return foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME))

    path = written(2.0**19)  # the scales themselves are below 65504
    assert load(path)[f"{NAME}.weight"].scales().max() < 65504
    with pytest.raises(lutsmith.Error, match=r"scales or offsets beyond the range of torch.float16.*torch.bfloat16"):
        load(path, dtype=F16)
    path = written(2.0**-18)
    assert checkpoints.load(path, progress=False).report.relative_error < 2**-9
    with pytest.raises(lutsmith.Error, match=r"below the range of torch.float16.*torch.bfloat16"):
        load(path, dtype=F16)


def test_compressed_tensors_library_decompresses_the_same(tmp_path):
    library = pytest.importorskip("compressed_tensors", reason="compressed-tensors is not installed")
    quantization = pytest.importorskip("compressed_tensors.quantization")
    for bits, dtype in ((4, BF16), (4, F16), (3, F16)):
        arguments = quantization.QuantizationArgs(num_bits=bits, group_size=GROUP, strategy="group", symmetric=False)
        scheme = quantization.QuantizationScheme(targets=["Linear"], weights=arguments)
        compressor = library.BaseCompressor.get_value_from_registry("pack-quantized")
        weight = torch.randn(N, K, generator=foreign.generator(1)).to(dtype) / 20
        given = {
            "weight": weight,
            "weight_scale": foreign.random_scales(N, K // GROUP, dtype),
            "weight_zero_point": (zeros_near(2 ** (bits - 1), bits) - 2 ** (bits - 1)).to(torch.int8),
        }
        stored = compressor.compress(given, scheme)
        expected = compressor.decompress(stored, scheme)["weight"]
        loaded = load(foreign.write(tmp_path / "m.safetensors", {f"a.{k}": v for k, v in stored.items()}))
        assert loaded["a.weight"].has_offsets and loaded.report.relative_error == 0
        assert torch.equal(loaded["a.weight"].dequantize(), expected)
