"""bench/decode.py as far as it goes without a GPU: what its steps compute, and what it writes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")

BENCH = Path(__file__).parents[2] / "bench"
sys.path.insert(0, str(BENCH))

import decode  # noqa: E402
from decoder_weights import random_model, with_16_bits, with_lutsmith  # noqa: E402
from lean_decoder import LeanDecoder  # noqa: E402
from peer_weights import HummingLinear, with_peer  # noqa: E402
from reference import Products  # noqa: E402

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


@pytest.mark.parametrize(("name", "activation"), [("llama", "silu"), ("gemma2", "gelu_tanh")])
def test_both_steps_run_with_packed_weights_and_agree(name, activation):
    with torch.no_grad():
        model = random_model(CONFIGURATIONS[name](), torch.bfloat16, torch.device("cpu"))
        weights = with_lutsmith(with_16_bits(model), bits=4, group=32, activation=activation)
        tokens = torch.randint(0, 320, (2, 5))
        lean = LeanDecoder(model, weights.lean, 2, length=5, compiled=False).forward(tokens, 0)
        original = model(input_ids=tokens).logits[:, -1]
        weights.put_into(model)
        packed = model(input_ids=tokens).logits[:, -1]
    assert (lean - packed).norm() < 0.02 * packed.norm()
    assert (original - packed).norm() > 0.02 * packed.norm()
    assert weights.bytes == sum(module.weight.nbytes for layer in weights.plain for module in layer.values())


def test_lean_step_adds_the_residual_and_applies_the_gate_in_the_products():
    with torch.no_grad():
        model = random_model(CONFIGURATIONS["llama"](), torch.bfloat16, torch.device("cpu"))
        weights = with_lutsmith(with_16_bits(model), bits=4, group=32, activation="silu")
        lean = LeanDecoder(model, weights.lean, 2, length=5, compiled=False)
        called = []
        pieces = dict(lean._pieces)
        lean._pieces = {
            name: lambda *given, name=name: called.append(name) or pieces[name](*given) for name in pieces
        }
        lean.forward(torch.randint(0, 320, (2, 5)), 0)
    assert "rotate_and_store" in called and not {"gated", "add_and_norm"} & set(called)


def test_replay_that_differs_from_the_step_is_an_error():
    logits = torch.randn(2, 320)
    assert decode.compare(logits.clone(), logits, "a step") == 0
    for wrong in (logits + 0.1, torch.full_like(logits, torch.nan)):
        with pytest.raises(RuntimeError, match="a step: the replay's logits differ"):
            decode.compare(wrong, logits, "a step")


@pytest.mark.parametrize(("peer", "package"), [("bitsandbytes", "bitsandbytes"), ("humming", "humming-kernels")])
def test_peer_that_is_not_there_is_an_error_that_says_how_to_get_it(peer, package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, peer, None)  # an import of it fails, whatever is installed
    with pytest.raises(SystemExit) as ended:
        decode.parsed(f"--device cpu --model tiny --peers {peer}".split())
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert f"--peers: {peer} cannot be imported here" in error and f"install it: pip install {package}" in error
    assert decode.parsed("--device cpu --model tiny".split()).peers == []


def test_peers_that_are_not_known_are_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        decode.parsed("--device cpu --model tiny --peers marlin".split())
    assert ended.value.code == 2
    assert "--peers: marlin is not allowed; allowed: bitsandbytes, humming" in capsys.readouterr().err


class RowsWithoutDimensions(torch.nn.Module):
    """Stands for a layer that takes rows of tokens only."""

    def forward(self, x):
        assert x.dim() == 2
        return torch.cat([x, -x], -1)


def test_layers_that_take_rows_of_tokens_stand_in_a_model():
    x = torch.randn(2, 3, 4)
    bias = torch.nn.Parameter(torch.arange(8.0))
    assert torch.equal(HummingLinear(RowsWithoutDimensions(), bias)(x), torch.cat([x, -x], -1) + bias)
    assert torch.equal(HummingLinear(RowsWithoutDimensions(), None)(x), torch.cat([x, -x], -1))


def test_both_steps_run_with_bitsandbytes_and_agree():
    pytest.importorskip("bitsandbytes")
    with torch.no_grad():
        # Its widths are multiples of 64, which that library's path on the CPU takes for granted.
        model = random_model(decode.CONFIGURATIONS["tiny"](), torch.bfloat16, torch.device("cpu"))
        original = with_16_bits(model)
        weights = with_peer("bitsandbytes", original)
        tokens = torch.randint(0, 320, (2, 5))
        lean = LeanDecoder(model, weights.lean, 2, length=5, compiled=False).forward(tokens, 0)
        expected = model(input_ids=tokens).logits[:, -1]
        weights.put_into(model)
        packed = model(input_ids=tokens).logits[:, -1]
    assert (lean - packed).norm() < 0.02 * packed.norm()
    assert 0.02 * packed.norm() < (expected - packed).norm() < 0.5 * packed.norm()
    values = sum(module.weight.numel() for layer in original.plain for module in layer.values())
    assert weights.bytes == values * (4 + 32 / 64) / 8


@pytest.fixture
def timer_of_refused_captures(monkeypatch):
    """As on a GPU, where no call can be captured."""

    def refuse(graph, capture_error_mode):
        raise RuntimeError(f"operation not permitted when stream is capturing, {capture_error_mode}")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", refuse)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    timer = decode.Timer(torch.device("cpu"), capture_mode="thread_local")
    timer.on_gpu = True
    return timer


def test_step_that_cannot_be_captured_runs_eagerly_where_it_may_and_says_so(timer_of_refused_captures):
    calls = []
    run = timer_of_refused_captures.captured(lambda: calls.append(1) or torch.tensor(len(calls)), must_be=False)
    run.again()
    assert run.result == len(calls) > 1
    assert run.eager == "RuntimeError: operation not permitted when stream is capturing, thread_local"
    with pytest.raises(RuntimeError, match="not permitted"):
        timer_of_refused_captures.captured(lambda: None)


def test_table_says_which_rows_are_eager(capsys):
    bench = decode.Bench(decode.parsed("--device cpu --model tiny".split()))
    given = {"step": "lean", "batch": 1, "context": 16, "ms": 2.0, "weight_bytes": 1}
    bench.add(weights="16 bits", **given)
    bench.add(weights="bitsandbytes nf4", eager="RuntimeError: not permitted", **given)
    bench.table()
    assert "| 16 bits |" in (table := capsys.readouterr().out) and "| bitsandbytes nf4 (eager) |" in table


def bench_of(given: str) -> decode.Bench:
    with torch.no_grad():
        return decode.Bench(decode.parsed(f"--device cpu --model tiny {given}".split()))


def test_prefill_is_the_median_of_its_runs_with_the_least_and_the_most(monkeypatch, capsys):
    bench = bench_of("--prefill-runs 4")
    times = iter([4.0, 1.0, 9.0, 2.0])
    monkeypatch.setattr(decode.Timer, "each", lambda self, run, runs, rounds: [next(times) for _ in range(rounds)])
    with torch.no_grad():
        bench.prefill(with_16_bits(bench.model), "lean", 8)
    (row,) = bench.rows
    assert (row["ms"], row["least"], row["most"], row["runs"]) == (3, 1, 9, 4)
    bench.table()
    assert "| 3.000 (1.000 to 9.000) | 2667 |" in capsys.readouterr().out


def test_each_round_is_timed_by_itself(monkeypatch):
    clock = iter([0.0, 1.0, 5.0, 5.5, 7.0, 10.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    calls = []
    times = decode.Timer(torch.device("cpu")).each(lambda: calls.append(1), runs=2, rounds=3)
    assert (times, len(calls)) == ([500, 250, 1500], 6)


def test_fused_step_has_fewer_launches_and_is_set_beside_16_bits(capsys):
    bench = bench_of("--layers 1 --step transformers,fused --batch 2 --context 4 --prefill= --bits 4 --seconds 3000")
    counted = {}
    step = bench.transformers_step

    def watched(weights, kind, batch, context):
        with Products() as products:
            bench.model(input_ids=torch.tensor([[1, 2]]))
        counted[weights.name, kind] = len(products.batch_invariant)
        step(weights, kind, batch, context)

    bench.transformers_step = watched
    with torch.no_grad():
        bench.run()
    # q, k, v, o, gate, up, down; then qkv, o, gate and up, down.
    packed = "lutsmith 4 bits"
    assert counted == {("16 bits", "transformers"): 0, (packed, "transformers"): 7, (packed, "fused"): 4}
    assert not any("failed" in row for row in bench.rows)
    bench.table()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| fused")]
    assert re.search(r"\| \d+\.\d\dx \|", line)


def test_step_that_cannot_be_compiled_says_so_and_runs(monkeypatch, capsys):
    def refuse(**given):
        raise RuntimeError("No working C++ compiler found\n" + "more\n" * 999)

    monkeypatch.setattr(torch, "compile", lambda model: refuse)
    bench = bench_of("--layers 1")
    with torch.no_grad():
        bench.transformers_step(with_16_bits(bench.model), "compiled", 1, 4)
    (row,) = bench.rows
    assert row["not_compiled"].startswith("RuntimeError: No working C++ compiler found")
    assert len(row["not_compiled"]) < 400
    assert row["ms"] > 0 and row["difference"] < 0.01 and row["compile_s"] > 0
    bench.table()
    assert "| 16 bits (not compiled) |" in capsys.readouterr().out


def test_step_that_is_compiled_does_not_say_that_it_is_not(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model, **given: compiled.append(given) or model)
    bench = bench_of("--layers 1")
    with torch.no_grad():
        bench.transformers_step(with_16_bits(bench.model), "compiled", 1, 4)
    assert compiled == [{}] and "not_compiled" not in bench.rows[0]


def test_script_writes_every_figure_and_a_table(tmp_path):
    given = "--device cpu --model tiny --batch 1,2 --context 16 --prefill 8 --prefill-runs 2 --bits 4,2 --seconds 3000"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", BENCH / "decode.py", *given.split(), "--json", tmp_path / "figures.json"],
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
    assert all(("least" in row) == ("prefill" in row) for row in rows)
    assert len([line for line in done.stdout.splitlines() if line.startswith("| ")]) == len(rows) + 1
    assert "failed" not in done.stdout.lower()
