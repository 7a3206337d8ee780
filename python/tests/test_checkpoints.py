"""Quantized checkpoints of other libraries in safetensors, made by hand in foreign.py."""

from __future__ import annotations

import io
import json

import pytest
import torch

import foreign
import lutsmith
from lutsmith import checkpoints
from lutsmith.checkpoints.loading import Line

F16, BF16 = torch.float16, torch.bfloat16
NAME = "model.layers.0.mlp.up_proj"


def load(path, **options):
    return checkpoints.load(path, progress=False, **options)


def assert_exact(loaded, made: foreign.Made, name: str = f"{NAME}.weight") -> lutsmith.PackedWeight:
    """The codes as they are stored, and float64's products bit for bit."""
    packed = loaded[name]
    (loss,) = [loss for loss in loaded.report.losses if loss.name == name]
    assert loss.how == "exact" and loaded.report.relative_error == 0
    assert torch.equal(packed.codes().long(), made.codes)
    assert torch.equal(packed.dequantize(torch.float32).double(), made.weights)
    assert torch.equal(packed.dequantize(), made.weights.to(torch.float32).to(packed.dtype))
    return packed


def relative(values: torch.Tensor, expected: torch.Tensor) -> float:
    return ((values.double() - expected).norm() / expected.norm()).item()


# bitsandbytes


@pytest.mark.parametrize("dtype", [None, F16, BF16])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_bitsandbytes_is_its_own_dequantization_with_scale_and_table_rounded_once(tmp_path, kind, nested, dtype):
    made = foreign.bitsandbytes(24, 192, kind, nested, "bfloat16")
    loaded = load(foreign.write(tmp_path / "m.safetensors", foreign.named(made, f"{NAME}.weight", "")), dtype=dtype)
    packed = loaded[f"{NAME}.weight"]
    assert packed.group == 64 and packed.dtype == (dtype or BF16)
    assert torch.equal(packed.codes().long(), made.codes)
    # The same with scales, and of nf4 a table, that were rounded before.
    table = torch.tensor(foreign.NF4 if kind == "nf4" else foreign.FP4, dtype=torch.float64)
    absmax = made.weights.reshape(24, 3, 64).abs().amax(-1) / table[made.codes].reshape(24, 3, 64).abs().amax(-1)
    scales = (absmax * (1 if kind == "nf4" else 4 / 3)).float().to(packed.dtype).double()
    values = table.to(packed.dtype).double() if kind == "nf4" else table * 0.75
    expected = scales.repeat_interleave(64, 1) * values[made.codes]
    assert torch.equal(packed.dequantize(torch.float32), expected.float())
    error = relative(expected, made.weights)
    assert loaded.report.relative_error == pytest.approx(error, rel=1e-4)
    assert error < {F16: 2**-10, BF16: 2**-7}[packed.dtype]
    assert "rounded" in str(loaded.report)


def test_blocks_that_run_on_into_the_next_row_become_smaller_groups(tmp_path):
    made = foreign.bitsandbytes(20, 96, "nf4", False)
    loaded = load(foreign.write(tmp_path / "m.safetensors", foreign.named(made, f"{NAME}.weight", "")))
    packed = loaded[f"{NAME}.weight"]
    assert packed.group == 32
    assert torch.equal(packed.codes().long(), made.codes)
    assert relative(packed.dequantize(torch.float32), made.weights) < 2**-10


def test_blocks_that_no_group_of_a_kernel_lies_in_are_refused_or_requantized(tmp_path):
    made = foreign.bitsandbytes(16, 72, "nf4", False)
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, f"{NAME}.weight", ""))
    with pytest.raises(lutsmith.Error, match=f"{NAME}.weight: bitsandbytes nf4: blocks of 64 .* 72 .*requantize=True"):
        load(path)
    loaded = load(path, requantize=True)
    packed = loaded[f"{NAME}.weight"]
    error = relative(packed.dequantize(torch.float32), made.weights)
    assert 0.01 < error < 0.2
    assert loaded.report.relative_error == pytest.approx(error, rel=1e-4)
    assert "requantized" in str(loaded.report) and "no multiple of 32" in str(loaded.report)


def test_bitsandbytes_without_its_state_is_refused(tmp_path):
    made = foreign.bitsandbytes(16, 64, "nf4", False)
    tensors = {key: value for key, value in foreign.named(made, "a.weight", "").items() if "quant_state" not in key}
    with pytest.raises(lutsmith.Error, match=r"a\.weight: bitsandbytes: .*quant_state.* is missing"):
        load(foreign.write(tmp_path / "m.safetensors", tensors))


# GPTQ and AWQ


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("bits", "group"), [(2, 64), (3, 128), (4, 32), (4, 128)])
def test_symmetric_gptq_is_exact(tmp_path, bits, group, version):
    made = foreign.gptq(64, 256, bits, group, version)
    config = {"bits": bits, "group_size": group, "checkpoint_format": "gptq_v2" if version == 2 else "gptq"}
    packed = assert_exact(load(foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), config)), made)
    assert (packed.bits, packed.group, packed.dtype) == (bits, group, F16)


@pytest.mark.parametrize(
    ("k", "group", "kernels"), [(192, 128, 128), (512, 512, 0), (96, 128, 128), (1024, 512, 256), (192, 96, 32)]
)
def test_groups_of_other_sizes_repeat_their_scales(tmp_path, k, group, kernels):
    made = foreign.gptq(32, k, 4, group)
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), {"bits": 4, "group_size": group})
    assert assert_exact(load(path), made).group == kernels


def test_all_zero_points_alike_are_a_table_whatever_they_are(tmp_path):
    made = foreign.gptq(32, 128, 4, 64, 2, zeros=torch.full((32, 2), 5))
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), {"checkpoint_format": "gptq_v2"})
    assert assert_exact(load(path), made).table == tuple(float(code - 5) for code in range(16))
    (tmp_path / "config.json").unlink()
    with pytest.raises(lutsmith.Error, match="names the version"):  # of version 1 they would be 6
        load(path)


def test_old_configuration_file_is_read(tmp_path):
    made = foreign.gptq(32, 160, 4, 128, 2)
    tensors = foreign.named(made, NAME)
    del tensors[f"{NAME}.g_idx"]
    path = foreign.write(tmp_path / "m.safetensors", tensors)
    config = {"bits": 4, "group_size": 128, "checkpoint_format": "gptq_v2"}
    (tmp_path / "quantize_config.json").write_text(json.dumps(config))
    assert assert_exact(load(path), made).group == 128


def test_order_of_whole_groups_is_followed_without_reordering_columns(tmp_path):
    order = [group for group in (2, 0, 3, 1) for _ in range(64)]
    made = foreign.gptq(32, 256, 4, 64, g_idx=order)
    assert_exact(load(foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME))), made)


def test_eight_bits_are_refused_or_requantized(tmp_path):
    made = foreign.gptq(32, 128, 8, 64)
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), {"bits": 8})
    with pytest.raises(lutsmith.Error, match="8 bits"):
        load(path)
    packed = load(path, requantize={"bits": 3})[f"{NAME}.weight"]
    assert packed.bits == 3 and relative(packed.dequantize(torch.float32), made.weights) < 0.3


@pytest.mark.parametrize("zero", [8, 7])
def test_awq_is_exact_where_its_zero_points_are_alike(tmp_path, zero):
    made = foreign.awq(48, 256, 128, zeros=torch.full((48, 2), zero))
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), {"group_size": 128})
    assert assert_exact(load(path), made).group == 128


# compressed-tensors, MXFP4, NVFP4


@pytest.mark.parametrize("dtype", [F16, BF16])
@pytest.mark.parametrize(("bits", "group"), [(4, 128), (4, 32), (3, 64), (2, 64), (4, 0)])
def test_symmetric_integers_of_compressed_tensors_are_exact(tmp_path, bits, group, dtype):
    made = foreign.pack_quantized(40, 256, bits, group, dtype)
    packed = assert_exact(load(foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME))), made)
    # One scale for each row of 256 is also one for each 256.
    assert (packed.bits, packed.group, packed.dtype) == (bits, group or 256, dtype)


def test_zero_points_of_compressed_tensors_that_are_alike_are_a_table(tmp_path):
    made = foreign.pack_quantized(32, 128, 4, 64, F16, zeros=torch.full((32, 2), 3))
    assert_exact(load(foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME))), made)


def test_mxfp4_is_exact_in_bf16_and_in_f16_as_far_as_its_range_goes(tmp_path):
    made, _ = foreign.mxfp4(40, 128)
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME))
    assert assert_exact(load(path), made).dtype == BF16
    assert assert_exact(load(path, dtype=F16), made).dtype == F16
    made, _ = foreign.mxfp4(40, 128, lowest=0, highest=254)
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME))
    with pytest.raises(lutsmith.Error, match="beyond the range of torch.float16.*torch.bfloat16"):
        load(path, dtype=F16)
    made, _ = foreign.mxfp4(40, 128, lowest=0, highest=90)
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME))
    assert torch.equal(load(path)[f"{NAME}.weight"].codes().long(), made.codes)
    with pytest.raises(lutsmith.Error, match="below the range of torch.float16.*torch.bfloat16"):
        load(path, dtype=F16)


def test_stack_of_experts_in_mxfp4_is_a_matrix_for_each(tmp_path):
    experts = [foreign.mxfp4(24, 64, seed=seed)[0] for seed in (0, 7)]
    tensors = {
        "experts.down_proj_blocks": torch.stack([e.tensors["weight_packed"].reshape(24, 2, 16) for e in experts]),
        "experts.down_proj_scales": torch.stack([e.tensors["weight_scale"] for e in experts]),
        "experts.down_proj_bias": torch.ones(2, 24),
    }
    loaded = load(foreign.write(tmp_path / "m.safetensors", tensors))
    assert list(loaded) == ["experts.down_proj.0", "experts.down_proj.1", "experts.down_proj_bias"]
    for expert, made in enumerate(experts):
        assert_exact(loaded, made, f"experts.down_proj.{expert}")


@pytest.mark.parametrize("library", ["compressed-tensors", "ModelOpt"])
def test_nvfp4_is_refused_or_requantized_with_its_own_table(tmp_path, library):
    made = foreign.nvfp4(64, 512, library)
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME))
    with pytest.raises(lutsmith.Error, match="NVFP4: a scale for each 16 weights.*requantize=True"):
        load(path)
    loaded = load(path, requantize=True)
    packed = loaded[f"{NAME}.weight"]
    assert (packed.bits, packed.group, packed.dtype) == (4, 32, BF16)
    assert sorted(packed.table) == sorted(foreign.E2M1)
    error = relative(packed.dequantize(torch.float32), made.weights)
    assert loaded.report.relative_error == pytest.approx(error, rel=1e-3)
    assert 0.04 < error < 0.065
    # What the caller names has nothing of these defaults.
    other = load(path, requantize={"method": "nf"})[f"{NAME}.weight"]
    assert torch.equal(other.data, lutsmith.quantize(made.weights.float(), group=64, dtype=BF16).data)
    assert relative(other.dequantize(torch.float32), made.weights) > 1.3 * error
    assert load(path, requantize={"group": 64})[f"{NAME}.weight"].group == 64


# The folder


def test_folder_of_several_files_is_read_with_what_is_not_quantized(tmp_path):
    made = {f"layers.{i}": foreign.gptq(32, 64, 4, 32, zeros=None) for i in range(3)}
    norm = torch.rand(64).to(BF16)
    files = {}
    for i, (name, one) in enumerate(made.items()):
        tensors = foreign.named(one, name) | ({"norm.weight": norm} if i == 1 else {})
        foreign.write(tmp_path / f"{i}.safetensors", tensors)
        files |= dict.fromkeys(tensors, f"{i}.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    loaded = load(tmp_path)
    assert list(loaded) == ["layers.0.weight", "layers.1.weight", "layers.2.weight", "norm.weight"]
    assert torch.equal(loaded["norm.weight"], norm)
    for name, one in made.items():
        assert torch.equal(loaded[f"{name}.weight"].dequantize(torch.float32).double(), one.weights)
    assert [name for name, _, _ in checkpoints.stream(tmp_path, progress=False)] == list(loaded)
    assert "3 GPTQ 4 bits: exact" in str(loaded.report)
    (tmp_path / "2.safetensors").unlink()
    with pytest.raises(lutsmith.Error, match="2.safetensors: cannot be mapped"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"a.weight": torch.zeros(32, 64).to(torch.float8_e4m3fn)}, ["a.weight", "8-bit float", "BF16"]),
        ({"a.weight": torch.zeros(32, 64, dtype=torch.int8)}, ["a.weight", "type I8"]),
        ({"a.qweight": torch.zeros(8, 64, dtype=torch.int32)}, ["a.scales", "missing"]),
        (
            {"a.qweight": torch.zeros(8, 60, dtype=torch.int32), "a.scales": torch.zeros(1, 64, dtype=F16)},
            ["neither GPTQ's nor AWQ's", "Marlin"],
        ),
    ],
)
def test_what_is_in_no_known_format_is_refused_by_name(tmp_path, tensors, words):
    with pytest.raises(lutsmith.Error) as refused:
        load(foreign.write(tmp_path / "m.safetensors", tensors))
    for word in words:
        assert word in str(refused.value)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(lutsmith.Error, match="no such file"):
        load(tmp_path / "absent")
    with pytest.raises(lutsmith.Error, match=r"no \*.safetensors and no \*.gguf"):
        load(tmp_path)
    for name, words in (("m.safetensors", "no intact safetensors"), ("m.bin", "pickle")):
        (tmp_path / name).write_bytes(b"no header of anything at all")
        with pytest.raises(lutsmith.Error, match=words):
            load(tmp_path / name)
    made = foreign.gptq(32, 64, 4, 32)
    path = foreign.write(tmp_path / "n.safetensors", foreign.named(made, NAME))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(lutsmith.Error, match="behind the file's end"):
        load(path)


def test_folder_has_one_file_of_that_name_or_all_of_them(tmp_path):
    made = foreign.gptq(32, 64, 4, 32)
    foreign.write(tmp_path / "a.safetensors", foreign.named(made, "a"))
    foreign.write(tmp_path / "consolidated.safetensors", foreign.named(made, "b"))
    assert list(load(tmp_path)) == ["a.weight", "b.weight"]
    foreign.write(tmp_path / "c.safetensors", foreign.named(made, "a"))
    with pytest.raises(lutsmith.Error, match=r"c.safetensors: has tensor a\.qweight, as .*a.safetensors has"):
        load(tmp_path)
    foreign.write(tmp_path / "model.safetensors", foreign.named(made, "d"))
    assert list(load(tmp_path)) == ["d.weight"]


def test_progress_is_one_line_at_the_end_where_there_is_no_terminal(tmp_path, capsys):
    made = foreign.gptq(32, 64, 4, 32)
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME))
    checkpoints.load(path)
    assert capsys.readouterr().err == "lutsmith: 1 of 1 tensors, error 0.00e+00\n"
    checkpoints.load(path, progress=False)
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal_is_written_over_itself():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    with Line(2, True, terminal) as line:
        line.show("a.long.name")
        line.done(checkpoints.Loss("a.long.name", "GPTQ", "exact", 1.0, 0.0))
        line.show("b")
    first, second, last = terminal.getvalue().split("\r")[1:]
    assert first == "lutsmith: 0 of 2 tensors, a.long.name"
    assert second.rstrip() == "lutsmith: 1 of 2 tensors, b" and len(second) == len(first)
    assert last.rstrip() == "lutsmith: 1 of 2 tensors, error 0.00e+00" and last.endswith("\n")


# The libraries themselves, where they are there.


def test_bitsandbytes_library_dequantizes_the_same(tmp_path):
    functional = pytest.importorskip("bitsandbytes.functional", reason="bitsandbytes is not installed")
    weight = torch.randn(32, 128, generator=foreign.generator(1)).half() / 11
    for kind in ("nf4", "fp4"):
        for nested in (False, True):
            data, state = functional.quantize_4bit(weight, blocksize=64, compress_statistics=nested, quant_type=kind)
            tensors = {"a.weight": data} | {f"a.weight.{k}": v for k, v in state.as_dict(packed=True).items()}
            loaded = load(foreign.write(tmp_path / "m.safetensors", tensors))
            packed = loaded["a.weight"]
            expected = functional.dequantize_4bit(data, state)
            assert relative(packed.dequantize(torch.float32), expected.double()) < 2**-10
            # Scales alone: their rounding is all the difference of theirs.
            absmax = state.absmax
            if nested:
                absmax = functional.dequantize_blockwise(absmax, state.state2) + state.offset
            exact = absmax.double() * (1 if kind == "nf4" else 4 / 3)
            assert torch.equal(packed.scales().flatten(), exact.float().half())


def test_compressed_tensors_library_decompresses_the_same(tmp_path):
    library = pytest.importorskip("compressed_tensors", reason="compressed-tensors is not installed")
    quantization = pytest.importorskip("compressed_tensors.quantization")
    for bits, dtype in ((4, BF16), (3, F16)):
        arguments = quantization.QuantizationArgs(num_bits=bits, group_size=64, strategy="group", symmetric=True)
        scheme = quantization.QuantizationScheme(targets=["Linear"], weights=arguments)
        compressor = library.BaseCompressor.get_value_from_registry("pack-quantized")
        scales = foreign.random_scales(32, 2, dtype)
        weight = torch.randn(32, 128, generator=foreign.generator(1)).to(dtype) / 20
        stored = compressor.compress({"weight": weight, "weight_scale": scales}, scheme)
        expected = compressor.decompress(stored, scheme)["weight"]
        loaded = load(foreign.write(tmp_path / "m.safetensors", {f"a.{k}": v for k, v in stored.items()}))
        assert loaded.report.relative_error == 0
        assert torch.equal(loaded["a.weight"].dequantize(), expected)


def test_transformers_dequantizes_experts_in_mxfp4_the_same(tmp_path):
    mxfp4 = pytest.importorskip("transformers.integrations.mxfp4")
    made, exponents = foreign.mxfp4(24, 64)
    blocks = made.tensors["weight_packed"].reshape(1, 24, 2, 16)
    tensors = {"e_blocks": blocks, "e_scales": exponents.to(torch.uint8).unsqueeze(0)}
    packed = load(foreign.write(tmp_path / "m.safetensors", tensors))["e.0"]
    theirs = mxfp4.convert_moe_packed_tensors(blocks, tensors["e_scales"])[0]  # [K, N]
    assert torch.equal(packed.dequantize(), theirs.t())
