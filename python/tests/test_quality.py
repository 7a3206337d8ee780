"""The study of what quantizers lose, and the small models that it takes."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch
import transformers

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"
sys.path.insert(0, str(BENCH))
import quality
import quality_report
import quality_texts
import train_small_llama

TRAINING = [
    "--size",
    "tiny",
    "--vocabulary",
    "300",
    "--steps",
    "30",
    "--batch",
    "4",
    "--length",
    "48",
    "--device",
    "cpu",
]


def train(folder: Path, capsys, *more: str) -> dict:
    train_small_llama.main([str(folder), "--text", str(ROOT / "docs"), "--most", "40000", *TRAINING, "--json", *more])
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    train_small_llama.main([str(folder), "--text", str(ROOT / "docs"), "--most", "40000", *TRAINING])
    return folder


def test_a_trained_model_has_learned_and_loads(small):
    summary = json.loads((small / "training.json").read_text())
    assert summary["steps"] == 30 and summary["seen_tokens"] == 30 * 4 * 48
    assert summary["held_out_loss"] < math.log(summary["vocabulary"]) - 0.3
    model = transformers.AutoModelForCausalLM.from_pretrained(small)
    assert model.dtype == torch.float16 and sum(each.numel() for each in model.parameters()) == summary["parameters"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(small)
    text = "Kernels multiply: größer, 𝛼.\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_seeds_choose_the_model(small, tmp_path, capsys):
    first = json.loads((small / "training.json").read_text())
    same, other = (train(tmp_path / seed, capsys, "--seed", seed) for seed in ("0", "1"))
    assert same["held_out_loss"] == pytest.approx(first["held_out_loss"], rel=1e-5)
    assert abs(other["held_out_loss"] - same["held_out_loss"]) > 1e-4


def test_training_ends_in_time(tmp_path, capsys):
    summary = train(tmp_path, capsys, "--steps", "1000000", "--seconds", "1")
    assert 1 <= summary["seconds"] and summary["steps"] < 1000000


def test_text_that_is_measured_was_not_trained_or_calibrated_on():
    texts = [f"text {index}\n" + "".join(f"{index}: line {line}\n" for line in range(400)) for index in range(4)]
    training, measured, calibration = train_small_llama.parts_of(texts)
    lines = [set(part.splitlines()) for part in ("".join(training), measured, calibration)]
    assert all(lines) and not lines[0] & lines[1] and not lines[1] & lines[2] and not lines[0] & lines[2]
    assert sum(map(len, lines)) == 4 * 401
    for text in quality_texts.evaluation_texts().values():
        paragraphs = {each.strip() for each in text.split("\n\n")} - {""}
        assert not paragraphs & {each.strip() for each in quality_texts.calibration_text().split("\n\n")}


def run(capsys, *arguments: object) -> str:
    quality.main(list(map(str, arguments)))
    return "\n" + capsys.readouterr().out


def test_rows_go_on_and_tables_have_all_that_ran(small, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    texts = [f"held_out={small / 'held_out.txt'}", f"novel={ROOT / 'python' / 'examples' / 'alice.txt'}"]
    shared = [small, "--rows", rows, "--text", *texts, "--calibration", small / "calibration.txt", "--tokens", 129]
    shared += ["--window", 32, "--length", 64, "--calibration-tokens", 256, "--groups", "32", "--slow-groups", "64"]
    first = run(capsys, *shared, "--bits", "3", "--methods", "int", "nf")
    assert "int w3 g64" in first and "int w3 g32" in first
    second = run(capsys, *shared, "--bits", "3,4", "--methods", *quality.QUICK, *quality.SLOW)
    assert "\nnf w3 g64:" not in second and "awq+nfl w4 g64" in second  # the first ran before
    read = [quality_report.Row.read(json.loads(line)) for line in rows.read_text().splitlines()[1:]]
    assert {(row.method, row.bits, row.group) for row in read if row.method in quality.SLOW} == {
        (method, bits, 64) for method in quality.SLOW for bits in (3, 4)
    }
    for row in read:
        assert set(row.found) == {"held_out", "novel"} and row.found["novel"].tokens == 128
        assert (row.method == "16 bits") == (row.found["novel"].divergence.value == 0)
    report = run(capsys, "--rows", rows, "--report")
    assert report.count("\n| 3 | 64 |") == len(quality.QUICK) + len(quality.SLOW) and "| 3 | 32 | nf |" in report
    assert "| nf < int | 3 | 64 |" in report and "awq+nf within 3 %" in report
    with pytest.raises(SystemExit, match=r"rows of another study \(window\)"):
        run(capsys, *shared, "--window", 16)


def test_verdicts_are_sure_only_outside_of_the_interval():
    from lutsmith.evaluation import Estimate

    assert quality_report._verdict(Estimate(0.9, 0.8, 0.99)) == "yes"
    assert quality_report._verdict(Estimate(0.9, 0.8, 1.01)) == "not sure"
    assert quality_report._verdict(Estimate(1.2, 1.1, 1.3)) == "**no**"
