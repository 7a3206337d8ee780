"""GGUF files, compared with the dequantization of the package gguf."""

from __future__ import annotations

import pytest
import torch

gguf = pytest.importorskip("gguf")
numpy = pytest.importorskip("numpy")

import lutsmith  # noqa: E402
from lutsmith import checkpoints  # noqa: E402

TYPES = gguf.GGMLQuantizationType
N, K = 40, 512


def random_blocks(kind, n: int = N, k: int = K, seed: int = 0):
    """Any bytes are blocks of a type, but that scales must be usual numbers. [n, bytes of a row]"""
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    bytes_of = numpy.random.default_rng(seed)
    blocks = bytes_of.integers(0, 256, (n, k // weights, size), dtype=numpy.uint8)
    if kind == TYPES.MXFP4:
        blocks[..., 0] = bytes_of.integers(110, 128, blocks.shape[:2])
    else:
        scale = bytes_of.uniform(-0.02, 0.02, (*blocks.shape[:2], 1)).astype(numpy.float16).view(numpy.uint8)
        places = {TYPES.TQ2_0: (64,), TYPES.Q4_1: (0, 2), TYPES.Q4_K: (0, 2)}.get(kind, (0,))
        for i, place in enumerate(places):
            blocks[..., place : place + 2] = numpy.roll(scale, i, axis=0)
    return blocks.reshape(n, -1)


def write(path, tensors: dict) -> None:
    """tensors: {name: (array, type)}; quantized ones as bytes, also [experts, n, bytes]."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def theirs(data, kind) -> torch.Tensor:
    return torch.from_numpy(gguf.dequantize(data, kind))


@pytest.mark.parametrize(
    ("kind", "bits", "group"),
    [("Q4_0", 4, 32), ("Q4_1", 4, 32), ("IQ4_NL", 4, 32), ("TQ2_0", 2, 256), ("MXFP4", 4, 32)],
)
def test_types_with_scales_of_16_bits_are_their_own_dequantization_bit_for_bit(tmp_path, kind, bits, group):
    data = random_blocks(TYPES[kind])
    write(tmp_path / "m.gguf", {"blk.0.attn_q.weight": (data, TYPES[kind])})
    loaded = checkpoints.load(tmp_path, progress=False)
    packed = loaded["blk.0.attn_q.weight"]
    assert (packed.bits, packed.group, packed.shape) == (bits, group, (N, K))
    assert packed.dtype == (torch.bfloat16 if kind == "MXFP4" else torch.float16)
    assert packed.has_offsets == (kind == "Q4_1")
    assert torch.equal(packed.dequantize(torch.float32), theirs(data, TYPES[kind]))
    assert loaded.report.relative_error == 0


def test_scales_of_iq4_xs_are_rounded_once(tmp_path):
    data = random_blocks(TYPES.IQ4_XS)
    write(tmp_path / "m.gguf", {"a.weight": (data, TYPES.IQ4_XS)})
    for dtype, allowed in ((None, 2**-11), (torch.bfloat16, 2**-8)):
        loaded = checkpoints.load(tmp_path / "m.gguf", dtype=dtype, progress=False)
        expected = theirs(data, TYPES.IQ4_XS)
        difference = (loaded["a.weight"].dequantize(torch.float32) - expected).abs()
        assert (difference <= allowed * expected.abs()).all() and difference.any()
        error = (difference.double().norm() / expected.double().norm()).item()
        assert loaded.report.relative_error == pytest.approx(error, rel=1e-4)


def test_scales_and_minima_of_q4_k_are_rounded_once(tmp_path):
    data = random_blocks(TYPES.Q4_K)
    write(tmp_path / "m.gguf", {"a.weight": (data, TYPES.Q4_K)})
    expected = theirs(data, TYPES.Q4_K).double()
    for dtype, half_a_unit in ((torch.float16, 2**-11), (torch.bfloat16, 2**-8)):
        loaded = checkpoints.load(tmp_path / "m.gguf", dtype=dtype, progress=False)
        packed = loaded["a.weight"]
        assert (packed.bits, packed.group, packed.has_offsets) == (4, 32, True)
        difference = (packed.dequantize(torch.float32).double() - expected).abs()
        scales, offsets = (part.double().repeat_interleave(32, dim=1) for part in (packed.scales(), packed.offsets()))
        products = scales * (packed.codes().double() - 8)
        assert (difference <= half_a_unit * 1.01 * (products.abs() + offsets.abs()) + 2**-24).all()
        (loss,) = loaded.report.losses
        assert loss.how == "rounded" and loss.largest == pytest.approx(difference.max().item(), rel=1e-3)
        assert loss.relative_error == pytest.approx((difference.norm() / expected.norm()).item(), rel=1e-3)


def test_q4_k_whose_products_are_short_is_exact(tmp_path):
    data = random_blocks(TYPES.Q4_K)
    factors = numpy.array([2**-6, 2**-5], dtype=numpy.float16).view(numpy.uint8)
    data.reshape(-1, 144)[:, :4] = factors
    write(tmp_path / "m.gguf", {"a.weight": (data, TYPES.Q4_K)})
    loaded = checkpoints.load(tmp_path / "m.gguf", progress=False)
    assert loaded.report.losses[0].how == "exact"
    assert torch.equal(loaded["a.weight"].dequantize(torch.float32), theirs(data, TYPES.Q4_K))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Q5_0", "5 bits"),
        ("Q8_0", "8 bits"),
        ("Q2_K", "each 16 weights"),
        ("Q3_K", "each 16 weights"),
        ("Q5_1", "5 bits"),
        ("Q6_K", "6 bits"),
    ],
)
def test_other_types_are_refused_or_requantized(tmp_path, kind, words):
    weights = torch.randn(N, K, generator=torch.Generator().manual_seed(0)).numpy()
    try:
        data = gguf.quantize(weights, TYPES[kind])
    except NotImplementedError:
        data = random_blocks(TYPES[kind])
        usual = numpy.float16(0.01).tobytes()
        size = gguf.GGML_QUANT_SIZES[TYPES[kind]][1]
        blocks = data.reshape(-1, size)
        # Where the type has its one or two float16 scales.
        places = {"Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,)}[kind]
        for place in places:
            blocks[:, place : place + 2] = numpy.frombuffer(usual, dtype=numpy.uint8)
    write(tmp_path / "m.gguf", {"a.weight": (data, TYPES[kind])})
    with pytest.raises(lutsmith.Error, match=f"a.weight: GGUF {kind}: .*{words}.*requantize=True"):
        checkpoints.load(tmp_path / "m.gguf", progress=False)
    loaded = checkpoints.load(tmp_path / "m.gguf", requantize={"group": 32}, progress=False)
    expected = theirs(data, TYPES[kind])
    error = ((loaded["a.weight"].dequantize(torch.float32) - expected).norm() / expected.norm()).item()
    assert loaded.report.relative_error == pytest.approx(error, rel=1e-3)
    assert 0.01 < error < 0.2
    assert loaded["a.weight"].group == 32


def test_tensors_that_are_not_quantized_are_given_as_they_are(tmp_path):
    values = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    bf16 = values.bfloat16()
    tensors = {
        "f32": (values.numpy(), TYPES.F32),
        "f16": (values.half().numpy(), TYPES.F16),
        "bf16": (bf16.view(torch.uint8).numpy(), TYPES.BF16),
    }
    write(tmp_path / "m.gguf", tensors)
    loaded = checkpoints.load(tmp_path / "m.gguf", progress=False)
    for name, expected in (("f32", values), ("f16", values.half()), ("bf16", bf16)):
        assert loaded[name].dtype == expected.dtype
        assert torch.equal(loaded[name], expected)


def test_stack_of_experts_is_a_matrix_for_each(tmp_path):
    parts = [random_blocks(TYPES.Q4_0, seed=seed) for seed in (1, 2)]
    write(tmp_path / "m.gguf", {"blk.0.ffn_up_exps.weight": (numpy.stack(parts), TYPES.Q4_0)})
    loaded = checkpoints.load(tmp_path / "m.gguf", progress=False)
    for i, data in enumerate(parts):
        packed = loaded[f"blk.0.ffn_up_exps.weight.{i}"]
        assert torch.equal(packed.dequantize(torch.float32), theirs(data, TYPES.Q4_0))


def test_what_is_no_gguf_file_or_more_than_one_model_is_refused(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"nothing of that kind, but long enough to be read")
    with pytest.raises(lutsmith.Error, match="a.gguf: is no intact GGUF file"):
        checkpoints.load(tmp_path / "a.gguf")
    write(tmp_path / "b.gguf", {"a.weight": (random_blocks(TYPES.Q4_0), TYPES.Q4_0)})
    with pytest.raises(lutsmith.Error, match=r"several GGUF models \(a.gguf, b.gguf\)"):
        checkpoints.load(tmp_path)


def test_files_of_one_model_are_read_together(tmp_path):
    data = [random_blocks(TYPES.Q4_0, seed=seed) for seed in (1, 2)]
    for i in range(2):
        write(tmp_path / f"m-{i + 1:05}-of-00002.gguf", {f"{i}.weight": (data[i], TYPES.Q4_0)})
    loaded = checkpoints.load(tmp_path, progress=False)
    for i in range(2):
        assert torch.equal(loaded[f"{i}.weight"].dequantize(torch.float32), theirs(data[i], TYPES.Q4_0))
