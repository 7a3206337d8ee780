"""bench/decode.py as far as it goes without a GPU: what its steps compute, and what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")

BENCH = Path(__file__).parents[2] / "bench"
sys.path.insert(0, str(BENCH))

import decode  # noqa: E402
from decoder_weights import random_model, with_16_bits, with_lutsmith  # noqa: E402
from lean_decoder import LeanDecoder  # noqa: E402

SHAPE = {
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 320,
}
CONFIGURATIONS = {
    "llama": lambda: transformers.LlamaConfig(**SHAPE),
    "qwen2.5": lambda: transformers.Qwen2Config(**SHAPE),
    "gemma2": lambda: transformers.Gemma2Config(**SHAPE, head_dim=32, query_pre_attn_scalar=48, sliding_window=64),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("batch", [1, 3])
def test_lean_step_computes_what_transformers_computes(name, batch):
    with torch.no_grad():
        model = random_model(CONFIGURATIONS[name](), torch.float32, torch.device("cpu"))
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name or "bias" in parameter_name:  # else they are ones and zeros
                parameter.add_(torch.randn(parameter.shape) * 0.3)
        tokens = torch.randint(0, 320, (batch, 9))
        expected = model(input_ids=tokens).logits
        lean = LeanDecoder(model, with_16_bits(model).lean, batch, length=9, compiled=False)
        torch.testing.assert_close(lean.forward(tokens[:, :8], 0), expected[:, 7], rtol=1e-5, atol=1e-5)
        lean.tokens.copy_(tokens[:, 8:])
        torch.testing.assert_close(lean.decode(8), expected[:, 8], rtol=1e-5, atol=1e-5)
        assert torch.equal(lean.tokens[:, 0], expected[:, 8].argmax(-1))


def test_both_steps_run_with_packed_weights_and_agree():
    with torch.no_grad():
        model = random_model(CONFIGURATIONS["llama"](), torch.bfloat16, torch.device("cpu"))
        weights = with_lutsmith(with_16_bits(model), bits=4, group=32)
        tokens = torch.randint(0, 320, (2, 5))
        lean = LeanDecoder(model, weights.lean, 2, length=5, compiled=False).forward(tokens, 0)
        original = model(input_ids=tokens).logits[:, -1]
        weights.put_into(model)
        packed = model(input_ids=tokens).logits[:, -1]
    assert (lean - packed).norm() < 0.02 * packed.norm()
    assert (original - packed).norm() > 0.02 * packed.norm()
    assert weights.bytes == sum(module.weight.nbytes for layer in weights.plain for module in layer.values())


def test_replay_that_differs_from_the_step_is_an_error():
    logits = torch.randn(2, 320)
    assert decode.compare(logits.clone(), logits, "a step") == 0
    for wrong in (logits + 0.1, torch.full_like(logits, torch.nan)):
        with pytest.raises(RuntimeError, match="a step: the replay's logits differ"):
            decode.compare(wrong, logits, "a step")


def test_script_writes_every_figure_and_a_table(tmp_path):
    given = "--device cpu --model tiny --batch 1,2 --context 16 --prefill 8 --bits 4,2".split()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", BENCH / "decode.py", *given, "--json", tmp_path / "figures.json"],
        check=True,
        capture_output=True,
        text=True,
    )
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    work = {(row["weights"], row["step"], row.get("batch"), row.get("prefill")) for row in rows}
    assert work == {
        (weights, step, batch, prefill)
        for weights in ("16 bits", "lutsmith 4 bits", "lutsmith 2 bits")
        for step in ("lean", "transformers")
        for batch, prefill in ((1, None), (2, None), (None, 8))
    }
    assert all(row["ms"] > 0 for row in rows)
    assert len([line for line in done.stdout.splitlines() if line.startswith("| ")]) == len(rows) + 1
    assert "failed" not in done.stdout.lower()
