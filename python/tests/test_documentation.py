"""The examples of docs/python.md, quantizers.md, checkpoints.md and evaluation.md, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import foreign
from reference import random_weight
from test_files import run, write_safetensors

DOCS = Path(__file__).parents[2] / "docs"


def blocks(language: str, page: str = "python.md") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path):
    """With what the examples read."""
    model = tmp_path / "model" / "model.safetensors"
    model.parent.mkdir()
    write_safetensors(model, {"layer.weight": random_weight(96, 128)})
    run("quantize", model, "-o", tmp_path / "packed.safetensors")
    names = ("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight", "lm_head.weight")
    write_safetensors(tmp_path / "model.safetensors", {name: random_weight(96, 128) for name in names})
    (tmp_path / "gptq").mkdir()
    foreign.write(tmp_path / "gptq" / "model.safetensors", foreign.named(foreign.gptq(96, 128, 4, 64), "layer"))
    return tmp_path


@pytest.mark.parametrize(
    "example",
    [*blocks("python"), *blocks("python", "quantizers.md"), *blocks("python", "evaluation.md")],
    ids=lambda example: example.splitlines()[-1][:40],
)
def test_example_in_python_runs(example, folder):
    subprocess.run([sys.executable, "-W", "ignore", "-c", example], check=True, cwd=folder)


def test_example_says_what_is_printed(folder):
    example = blocks("python")[0]
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", example], check=True, capture_output=True, text=True)
    for said in re.findall(r"print\(packed\)  # (.*)", example):
        assert said in done.stdout
    assert float(re.search(r"tensor\((\S+?),", done.stdout)[1]) < 0.02


def test_example_says_what_became_of_another_librarys_model(folder):
    (example,) = [block for block in blocks("python") if "checkpoints.load" in block]
    command = [sys.executable, "-W", "ignore", "-c", example]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
    assert "".join(f"# {line}\n" for line in done.stdout.splitlines()) in example


@pytest.mark.parametrize("example", [*blocks("sh"), *blocks("sh", "checkpoints.md")])
def test_commands_run(example, folder):
    (folder / "packed.safetensors").unlink()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LUTSMITH_CACHE_DIR": str(folder / "cache"),
    }
    subprocess.run(["bash", "-euc", example], check=True, cwd=folder, env=environment)
