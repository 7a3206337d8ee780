"""FLUTE's and HIGGS' checkpoints, packed here code by code from the description of the layout."""

from __future__ import annotations

import json
import math

import pytest
import torch

import foreign
import lutsmith
from lutsmith import checkpoints
from lutsmith.hadamard import NO_SIGNS, Hadamard
from test_checkpoints import BF16, F16, NAME, load
from test_checkpoints_convert import load as load_model
from test_checkpoints_convert import packed_layers, write_checkpoint

numpy = pytest.importorskip("numpy")

ROWS = {2: 8, 3: 16, 4: 4}  # of a word of 32 bits
SMALL = {2: 8, 3: 0, 4: 20}  # kernels of FLUTE whose tiles have 32 rows
LARGE = {2: 12, 4: 50}  # and 64


def places(row: int, bits: int, tile: int, n: int) -> list[tuple[int, int, int, int]]:
    """Where the field of two codes of a row lies, by pieces: (word along N, first bit there, of the field, bits)."""
    chunk, rest = divmod(row, ROWS[bits] * tile)
    field, lane = divmod(rest, tile)
    if bits != 3:
        return [(chunk * tile + lane, field * 2 * bits, 0, 2 * bits)]
    words = [chunk * tile + lane, *(n // 16 + (2 * chunk + plane) * tile + lane for plane in (0, 1))]
    if field == 15:
        return [(word, 30, 2 * i, 2) for i, word in enumerate(words)]
    return [(words[field % 3], 6 * (field // 3), 0, 6)]


def packed_words(codes: torch.Tensor, bits: int, tile: int) -> torch.Tensor:
    """[N, K] -> int16 [N * bits / 16, K]"""
    n, k = codes.shape
    fields = codes.numpy().astype(numpy.uint64)
    fields = fields[:, 0::2] << numpy.uint64(bits) | fields[:, 1::2]
    words = numpy.zeros((n * bits // 16, k // 2), dtype=numpy.uint64)
    for row in range(n):
        for word, at, first, length in places(row, bits, tile, n):
            words[word] |= (fields[row] >> numpy.uint64(first) & numpy.uint64(2**length - 1)) << numpy.uint64(at)
    halves = numpy.stack([words & numpy.uint64(0xFFFF), words >> numpy.uint64(16)], axis=-1).reshape(-1, k)
    return torch.from_numpy(halves.astype(numpy.uint16).view(numpy.int16).copy())


def hadamard_matrix(size: int) -> torch.Tensor:
    """Sylvester's, divided by its norm."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while matrix.shape[0] < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / math.sqrt(size)


def made_of(
    n: int, k: int, bits: int, group: int, tile: int, dtype: torch.dtype, grid: bool, size: int = 0, bare: bool = False
) -> foreign.Made:
    """grid: of pairs, else a scalar table. size: of the Hadamard transform. bare: tables2 as 32-bit numbers."""
    codes = foreign.random_codes(n, k, bits, seed=bits)
    scales = foreign.random_scales(n, k // group, dtype)
    entries = 2**bits
    if grid:
        tables = torch.arange(entries).to(dtype)
        pairs = torch.randn(entries, entries, 2, generator=foreign.generator(9)).to(dtype)
    else:
        tables = torch.randn(entries, generator=foreign.generator(9)).to(dtype)
        pairs = torch.stack(torch.meshgrid(tables, tables, indexing="ij"), -1)
    values = pairs.double()[codes[:, 0::2], codes[:, 1::2]].reshape(n, k)
    weights = scales.double().repeat_interleave(group, 1) * values
    if size:
        weights = (weights.reshape(n, -1, size) @ hadamard_matrix(size).T).reshape(n, k)
    # Saved as numbers of another type, whose bits are these.
    stored = pairs.flatten().view(torch.float32).reshape(entries, entries, 1) if bare else pairs.view(F16)
    tensors = {"weight": packed_words(codes, bits, tile), "scales": scales, "tables": tables, "tables2": stored}
    return foreign.Made(tensors, weights, codes)


def higgs_configuration(bits: int, size: int, kernel: int, group: int = 64, modules: tuple[str, ...] = (NAME,)) -> dict:
    tuned = {name: {"template_id": kernel, "num_bits": bits, "M": 1} for name in modules}
    return {
        "quant_method": "higgs", "bits": bits, "p": 2, "hadamard_size": size, "group_size": group,
        "tune_metadata": tuned,
    }  # fmt: skip


def assert_carried_over(loaded, made: foreign.Made) -> lutsmith.PackedWeight:
    packed = loaded[f"{NAME}.weight"]
    (loss,) = loaded.report.losses
    assert loss.how == "exact" and loaded.report.relative_error == 0
    assert torch.equal(packed.codes().long(), made.codes)
    assert torch.equal(packed.scales(), made.tensors["scales"])
    return packed


@pytest.mark.parametrize("bare", [False, True], ids=["16 bits", "bits of 32"])
@pytest.mark.parametrize(("dtype", "group"), [(F16, 64), (BF16, 32)])
@pytest.mark.parametrize(("bits", "tile", "n"), [(2, 32, 512), (2, 64, 512), (3, 32, 1024), (4, 32, 384), (4, 64, 512)])
def test_flute_is_exact(tmp_path, bits, tile, n, dtype, group, bare):
    made = made_of(n, 128, bits, group, tile, dtype, grid=False, bare=bare)
    kernel = SMALL[bits] if tile == 32 else LARGE[bits]
    config = {"quant_method": "flute", "num_bits": bits, "tune_metadata": {NAME: {"template_id": kernel}}}
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), config)
    packed = assert_carried_over(load(path), made)
    assert (packed.bits, packed.group, packed.dtype, packed.hadamard) == (bits, group, dtype, None)
    assert packed.table == tuple(made.tensors["tables"].tolist())
    assert torch.equal(packed.dequantize(torch.float32).double(), made.weights)


@pytest.mark.parametrize("dtype", [F16, BF16])
@pytest.mark.parametrize("grid", [True, False], ids=["p = 2", "p = 1"])
@pytest.mark.parametrize(("bits", "tile", "n"), [(2, 64, 512), (3, 32, 512), (4, 32, 128)])
def test_higgs_is_exact_before_its_transform(tmp_path, bits, tile, n, grid, dtype):
    made = made_of(n, 256, bits, 64, tile, dtype, grid, size=128)
    config = higgs_configuration(bits, 128, SMALL[bits] if tile == 32 else LARGE[bits])
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), config)
    packed = assert_carried_over(load(path), made)
    assert packed.hadamard == Hadamard(128, NO_SIGNS) and (packed.bits, packed.group) == (bits, 64)
    stored = (made.weights.reshape(n, -1, 128) @ hadamard_matrix(128)).reshape(n, 256)
    assert torch.equal(packed.transformed().dequantize(torch.float32), stored.float())
    # What x is multiplied by as it is given, to float32's rounding.
    assert torch.allclose(packed.dequantize(torch.float32).double(), made.weights, rtol=0, atol=1e-6)
    x = torch.randn(3, 256, generator=foreign.generator(2)).to(dtype)
    y, right = lutsmith.matmul(x, packed).double(), x.double() @ made.weights.T
    assert (y - right).norm() / right.norm() < {F16: 2**-10, BF16: 2**-7}[dtype]
    again = lutsmith.PackedWeight.from_state_dict(packed.state_dict())
    assert torch.equal(lutsmith.matmul(x, again), lutsmith.matmul(x, packed))


def test_transforms_that_there_are_not_are_requantized(tmp_path):
    made = made_of(128, 2048, 4, 64, 32, F16, True, size=2048)
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), higgs_configuration(4, 2048, SMALL[4]))
    with pytest.raises(lutsmith.Error, match="HIGGS 4 bits: a Hadamard transform of 2048 .*8 to 1024.*requantize"):
        load(path)
    packed = load(path, requantize=True)[f"{NAME}.weight"]
    assert ((packed.dequantize(torch.float32) - made.weights).norm() / made.weights.norm()) < 0.12


def test_kernels_that_codes_were_packed_for_are_not_guessed(tmp_path):
    def written(n: int, config: dict | None, bits: int = 4):
        made = made_of(n, 64, bits, 64, 32, F16, False)
        for file in ("config.json", "flute_config.json"):
            (tmp_path / file).unlink(missing_ok=True)
        return foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), config), made

    flute = {"quant_method": "flute"}
    for config in (flute, {**flute, "tune_metadata": {"other": {"template_id": 20}}}, {**flute, "version": "0.3.0"}):
        with pytest.raises(lutsmith.Error, match=f"{NAME}: FLUTE: .*names no kernel; .*tune_metadata.*before 0.3"):
            load(written(256, config)[0])
    with pytest.raises(lutsmith.Error, match="kernel 144, which is not known"):
        load(written(256, {**flute, "tune_metadata": {NAME: {"template_id": 144}}})[0])
    with pytest.raises(lutsmith.Error, match="FLUTE or HIGGS: no config.json.*quant_method"):
        load(written(128, None)[0])
    with pytest.raises(lutsmith.Error, match="FLUTE or HIGGS: no config.json.*quant_method"):
        load(written(128, {"quant_method": "higgs", "hadamard_size": 100})[0])
    # Where there is one that it can be, none need be named.
    old = {**flute, "num_sms_packed": 108}
    for n, config, bits in ((384, flute, 4), (256, flute, 2), (512, flute, 3), (256, old, 4)):
        path, made = written(n, config, bits)
        assert_carried_over(load(path), made)
    path, made = written(256, None)
    (tmp_path / "flute_config.json").write_text(json.dumps({"version": "0.1.0", "num_bits": 4, "group_size": 64}))
    assert_carried_over(load(path), made)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("weight", lambda words: words[:-1], r"do not fit: weight \[31, 64\], scales \[128, 1\], tables \[16\]"),
        ("tables", lambda table: table[:-1], r"shapes that do not fit"),
        ("tables", lambda table: table + 1, "tables2 has neither pairs of the values of tables nor a grid"),
        ("tables2", lambda pairs: pairs[1:], r"tables2: 960 bytes are no 256 pairs"),
        ("scales", lambda scales: scales.float(), "scales of type F32 cannot be read; allowed: F16, BF16"),
    ],
    ids=["weight", "tables", "values", "tables2", "scales"],
)
def test_damaged_flute_is_refused(tmp_path, name, change, message):
    made = made_of(128, 64, 4, 64, 32, F16, False)
    made.tensors[name] = change(made.tensors[name]).contiguous()
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), {"quant_method": "flute"})
    with pytest.raises(lutsmith.Error, match=message):
        load(path)


def test_table_of_pairs_that_was_rounded_as_numbers_is_made_of_the_table(tmp_path):
    made = made_of(128, 64, 4, 64, 32, F16, False, bare=True)
    made.tensors["tables2"] = made.tensors["tables2"].to(F16).float()
    path = foreign.write(tmp_path / "m.safetensors", foreign.named(made, NAME), {"quant_method": "flute"})
    assert torch.equal(assert_carried_over(load(path), made).dequantize(torch.float32).double(), made.weights)


def test_higgs_model_is_loaded_with_its_own_codes(tmp_path):
    names: list[str] = []

    def make(n: int, k: int) -> foreign.Made:
        made = made_of(n, k, 4, 64, 32, F16, True, size=128)
        return made._replace(tensors={**made.tensors, "scales": made.tensors["scales"] / 4}, weights=made.weights / 4)

    sizes = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 64, "num_attention_heads": 2}
    expected = write_checkpoint(tmp_path / "higgs", make, {}, **sizes)
    names = [name for name, module in expected.named_modules() if isinstance(module, torch.nn.Linear)]
    config = json.loads((tmp_path / "higgs" / "config.json").read_text())
    config["quantization_config"] = higgs_configuration(4, 128, SMALL[4], modules=tuple(names))
    (tmp_path / "higgs" / "config.json").write_text(json.dumps(config))
    report = checkpoints.convert(tmp_path / "higgs", tmp_path / "packed", progress=False)
    assert "14 HIGGS 4 bits: exact" in str(report)
    model = load_model(tmp_path / "packed")
    layers = packed_layers(model)
    assert len(layers) == 14
    for name, layer in layers.items():
        (packed,) = layer.packed_weights()
        assert packed.hadamard == Hadamard(128, NO_SIGNS)
        weight = expected.get_parameter(f"{name}.weight").float()
        assert (packed.dequantize(torch.float32) - weight).norm() / weight.norm() < 2**-10
    tokens = torch.tensor([[1, 5, 9, 100, 42, 7, 77, 3]])
    with torch.no_grad():
        logits, right = model(tokens).logits.float(), expected(tokens).logits.float()
    assert (logits - right).norm() / right.norm() < 5e-3
