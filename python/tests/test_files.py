"""Files of the command line, and the command line itself."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

import lutsmith
from reference import random_weight


def run(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lutsmith", *map(str, arguments)], check=check, capture_output=True, text=True
    )


def write_safetensors(path, tensors: dict[str, torch.Tensor]) -> None:
    """Of float16 matrices; the safetensors package is no dependency."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = bytes(tensor.contiguous().view(torch.uint8).flatten().tolist())
        header[name] = {
            "dtype": "F16",
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.fixture
def checkpoint(tmp_path):
    """(folder, weights): two layers in a file, not yet quantized."""
    weights = {f"layers.{i}.weight": random_weight(96, 128, seed=i) for i in range(2)}
    write_safetensors(tmp_path / "model.safetensors", weights)
    return tmp_path, weights


def test_packed_file_holds_what_quantizing_here_makes(checkpoint):
    folder, weights = checkpoint
    packed = folder / "packed.safetensors"
    run("quantize", folder / "model.safetensors", "-o", packed, "--method", "nf", "--bits", 3, "--group", 32)
    loaded = lutsmith.load(packed)
    assert list(loaded) == sorted(weights)
    for name, weight in weights.items():
        here = lutsmith.quantize(weight, method="nf", bits=3, group=32)
        assert loaded[name].format == here.format
        assert torch.equal(loaded[name].data, here.data)


def test_folder_is_loaded_whole_and_mapped(checkpoint):
    folder, weights = checkpoint
    out = folder / "packed"
    out.mkdir()
    run("quantize", folder / "model.safetensors", "-o", out / "model.safetensors")
    loaded = lutsmith.load(out)
    assert len(loaded) == 2
    with open("/proc/self/maps") as maps:
        places = [line.split() for line in maps if str(out) in line]
    address = next(iter(loaded.values())).data.data_ptr()
    assert any(int(p[0].split("-")[0], 16) <= address < int(p[0].split("-")[1], 16) for p in places)
    # Writing to the mapped memory leaves the file as it is.
    before = (out / "model.safetensors").read_bytes()
    next(iter(loaded.values())).data[:] = 0
    assert (out / "model.safetensors").read_bytes() == before


def test_what_is_no_packed_file_is_named(checkpoint, tmp_path):
    folder, _ = checkpoint
    with pytest.raises(lutsmith.Error, match="no packed weights.*lutsmith quantize"):
        lutsmith.load(folder / "model.safetensors")
    with pytest.raises(lutsmith.Error, match="absent.*cannot be mapped"):
        lutsmith.load(folder / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(lutsmith.Error, match=r"no \*.safetensors"):
        lutsmith.load(tmp_path / "empty")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"not a safetensors file at all")
    with pytest.raises(lutsmith.Error, match="damaged.*no intact"):
        lutsmith.load(damaged)


def test_truncated_file_is_refused(checkpoint):
    folder, _ = checkpoint
    packed = folder / "packed.safetensors"
    run("quantize", folder / "model.safetensors", "-o", packed)
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-100])
    with pytest.raises(lutsmith.Error, match="packed.safetensors.*behind the file's end"):
        lutsmith.load(packed)


def test_program_runs_with_its_own_exit_status():
    assert run("--version").stdout.split()[-1] == lutsmith.__version__
    wrong = run("quantise", check=False)
    assert wrong.returncode == 2 and "quantise" in wrong.stderr


def test_script_is_the_same_program():
    from pathlib import Path

    script = Path(sys.executable).with_name("lutsmith")
    if not script.exists():
        pytest.skip("the package is not installed into this environment")
    done = subprocess.run([script, "--version"], check=True, capture_output=True, text=True)
    assert done.stdout == run("--version").stdout


def test_command_line_loads_no_torch():
    code = "import sys, lutsmith; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
