"""bench/load_model.py: a model is saved, loaded packed, and generates."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import load_model


def test_a_model_is_loaded_packed_and_its_bytes_are_told_apart(tmp_path, capsys):
    load_model.main(f"--model tiny --layers 1 --group 32 --device cpu --folder {tmp_path}".split())
    told = capsys.readouterr().out
    assert "tiny, 4 bits, groups of 32: loaded in" in told and "GiB of everything else" in told
    assert "host memory at most" in told and "GPU memory" not in told
    assert list(tmp_path.glob("*.safetensors"))


def test_bytes_are_counted_once_and_by_what_they_are():
    import torch

    from lutsmith.nn import Linear

    shared = torch.nn.Linear(128, 64).half()
    packed = Linear.from_linear(shared, group=32)
    model = torch.nn.ModuleDict({"packed": packed, "one": shared, "again": shared})
    assert load_model.bytes_of(model) == (packed.weight.nbytes, packed.bias.nbytes + shared.weight.nbytes)
