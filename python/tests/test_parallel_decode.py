"""bench/parallel_decode.py as far as it goes without GPUs: what its ranks compute, and what it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("transformers")

from test_decode import BENCH, CONFIGURATIONS  # noqa: E402  (puts the folder on the path)

import decode  # noqa: E402
import decoder_weights  # noqa: E402
import parallel_decode  # noqa: E402
import parallel_decoder  # noqa: E402
from decode_figures import relative_difference  # noqa: E402
from parallel_decoder import ParallelDecoder, Rank, Shard  # noqa: E402

CPU = torch.device("cpu")


class ThreadRank(Rank):
    """Meets the others in this process, where each is a thread."""

    def meet(self, x: torch.Tensor) -> torch.Tensor:
        self.place[self.index] = x.clone()
        self.barrier.wait()
        every = torch.stack(self.place)
        self.barrier.wait()
        return every

    def sum(self, y: torch.Tensor) -> None:
        y.copy_(self.meet(y).float().sum(0))

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        return self.meet(x)


def by_ranks(ranks: int, work) -> list:
    """work(rank) of each, in threads."""
    barrier, place = threading.Barrier(ranks, timeout=60), [None] * ranks

    def one(index: int):
        rank = ThreadRank(index, ranks)
        rank.barrier, rank.place = barrier, place
        try:
            with torch.no_grad():
                return work(rank)
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(ranks) as threads:
        return list(threads.map(one, range(ranks)))


@pytest.fixture
def small_models(monkeypatch):
    for name, make in CONFIGURATIONS.items():
        monkeypatch.setitem(decoder_weights.CONFIGURATIONS, name, make)
    make_model = parallel_decoder.random_model

    def random_model(*given):
        model = make_model(*given)
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:  # else they are ones and zeros
                parameter.add_(torch.randn(parameter.shape).to(parameter.dtype) * 0.3)
        return model

    monkeypatch.setattr(parallel_decoder, "random_model", random_model)


@pytest.mark.parametrize("packed", [False, True], ids=["16 bits", "packed"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_ranks_compute_together_what_one_computes(small_models, name, packed):
    one_at_a_time = threading.Lock()  # while a model is made, torch has another default type, in all threads

    def work(rank):
        with one_at_a_time:
            shard = Shard(name, 3, rank, torch.float16 if packed else torch.float32, CPU)
            weights = shard.with_lutsmith(4, 32) if packed else shard.with_16_bits()
        rank.barrier.wait()
        decoder = ParallelDecoder(shard, weights, 2, 9, compiled=False)
        tokens = torch.arange(18).view(2, 9) * 7 % 320
        prefilled = decoder.forward(tokens[:, :8], 0)
        decoder.tokens.copy_(tokens[:, 8:])
        decoded = decoder.decode(8)
        return prefilled, decoded, decoder.tokens.clone(), weights

    ((prefilled, decoded, chosen, whole),) = by_ranks(1, work)
    assert torch.equal(chosen[:, 0], decoded.argmax(-1))
    parts = by_ranks(2, work)
    allowed = 0.01 if packed else 1e-5  # of float16, to which shares of sums are rounded before they are added
    assert relative_difference(torch.cat([part[0] for part in parts], -1), prefilled) < allowed
    logits = torch.cat([part[1] for part in parts], -1)
    assert relative_difference(logits, decoded) < allowed
    for _, _, tokens, weights in parts:
        assert torch.equal(tokens[:, 0], logits.argmax(-1))
        assert weights.name == whole.name
    if not packed:
        assert [weights.bytes for *_, weights in parts] == [whole.bytes // 2] * 2


def test_one_rank_computes_what_transformers_computes_with_as_many_layers(small_models):
    def work(rank):
        shard = Shard("llama", 3, rank, torch.float32, CPU)
        whole = decoder_weights.random_model(decoder_weights.configuration("llama", 3), torch.float32, CPU)
        whole.model.embed_tokens, whole.model.norm = shard.model.model.embed_tokens, shard.model.model.norm
        whole.lm_head = shard.model.lm_head
        for layer in whole.model.layers:
            layer.load_state_dict(shard.model.model.layers[0].state_dict())
        tokens = torch.arange(5)[None]
        parallel = ParallelDecoder(shard, shard.with_16_bits(), 1, 5, compiled=False).forward(tokens, 0)
        return parallel, whole(input_ids=tokens).logits[:, -1]

    ((parallel, expected),) = by_ranks(1, work)
    torch.testing.assert_close(parallel, expected, rtol=1e-4, atol=1e-5)


def test_products_alone_have_no_sums(small_models):
    def work(rank):
        shard = Shard("llama", 2, rank, torch.float32, CPU)
        decoder = ParallelDecoder(shard, shard.with_16_bits(), 1, 4, compiled=False)
        met = []
        rank.__class__.meet, meet = lambda self, x: met.append(1) or x[None], rank.__class__.meet
        try:
            decoder.only_linear(torch.zeros(1, 1, 96), torch.zeros(1, 1, 48), torch.zeros(1, 1, 80))
            without = len(met)
            decoder.only_sums(torch.zeros(1, 1, 96))
        finally:
            rank.__class__.meet = meet
        return without, len(met)

    barrier_free = ThreadRank(0, 2)
    with torch.no_grad():
        assert work(barrier_free) == (0, 4)


def script(tmp_path, given: str) -> tuple[int, str, list[dict]]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", BENCH / "decode.py", *given.split(), "--json", tmp_path / "figures.json"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return done.returncode, done.stdout + done.stderr, json.loads((tmp_path / "figures.json").read_text())["rows"]


def test_script_measures_ranks_beside_one(tmp_path):
    code, said, rows = script(
        tmp_path,
        "--device cpu --model tiny --layers 1 --tensor-parallel 1,2 --batch 2 --context 8 --prefill 4 --bits 4 "
        "--prefill-runs 2 --seconds 3000",
    )
    assert code == 0, said
    compared = {row["weights"]: row["difference_from_one"] for row in rows if "difference_from_one" in row}
    assert compared.keys() == {"16 bits", "lutsmith 4 bits"}
    assert all(0 < difference < 0.01 for difference in compared.values())
    timed = [row for row in rows if "ms" in row]
    work = [(row["tensor_parallel"], row["weights"], row.get("batch"), row.get("prefill")) for row in timed]
    assert sorted(work, key=str) == sorted(
        (
            (ranks, weights, batch, prefill)
            for ranks in (1, 2)
            for weights in ("16 bits", "lutsmith 4 bits")
            for batch, prefill in ((2, None), (None, 4))
        ),
        key=str,
    )
    for row in rows:
        if "batch" in row:
            assert row["same_tokens"] == 1 and row["ms"] > 0
            assert len(row["linear"]) == len(row["sums"]) == len(row["attention"]) == row["tensor_parallel"]
            assert all(time > 0 for part in ("linear", "attention") for time in row[part])
            assert all((time > 0) == (row["tensor_parallel"] > 1) for time in row["sums"])
    table = [line for line in said.splitlines() if line.startswith("| ")]
    assert len(table) == len(work) + 1
    assert "kernels by the cost model" in said


def test_rank_that_fails_ends_the_others_and_is_told(tmp_path):
    code, said, rows = script(
        tmp_path,
        "--device cpu --model tiny --layers 1 --tensor-parallel 2 --group 48 --batch 1 --context 4 --prefill= --bits 4 "
        "--prefill-runs 2 --seconds 3000",
    )
    assert code == 1
    assert [row["weights"] for row in rows if "ms" in row] == ["16 bits"]  # what was measured before is kept
    (failed,) = [row["failed"] for row in rows if "failed" in row]
    assert "group" in failed and "48" in failed


@pytest.mark.parametrize(
    ("ranks", "message"),
    [("4", "tiny has 2 heads of K and V, which 4 GPUs cannot share"), ("3", "tiny has 4 heads, which 3")],
)
def test_ranks_that_cannot_share_evenly_are_refused(ranks, message, capsys):
    with pytest.raises(SystemExit) as ended:
        decode.parsed(f"--device cpu --model tiny --tensor-parallel {ranks}".split())
    assert ended.value.code == 2
    assert f"--tensor-parallel: {message}" in capsys.readouterr().err


def test_more_ranks_than_gpus_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SystemExit):
        decode.parsed("--tensor-parallel 1,2".split())
    assert "--tensor-parallel: 2 GPUs are asked for, torch finds 1" in capsys.readouterr().err


@pytest.fixture
def environment(monkeypatch):
    for name in ("LUTSMITH_TUNING", "LUTSMITH_TUNING_FILE", "LUTSMITH_TUNING_MISSING"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    yield os.environ
    for name in ("LUTSMITH_TUNING", "LUTSMITH_TUNING_FILE", "LUTSMITH_TUNING_MISSING"):
        os.environ.pop(name, None)


def test_kernels_are_pinned_to_what_is_shipped_or_to_the_cost_model(environment, monkeypatch):
    def gpu(name: str, multiprocessors: int) -> None:
        properties = SimpleNamespace(name=name, multi_processor_count=multiprocessors)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)

    gpu("NVIDIA H100 80GB HBM3", 132)
    assert "nvidia-h100-80gb-hbm3-132.v1.json" in parallel_decode.pin_kernels(torch.device("cuda"))
    assert (environment["LUTSMITH_TUNING"], environment["LUTSMITH_TUNING_MISSING"]) == ("replay", "model")
    assert json.loads(open(environment["LUTSMITH_TUNING_FILE"]).read())
    assert "as given" in parallel_decode.pin_kernels(torch.device("cuda"))
    del environment["LUTSMITH_TUNING"]
    gpu("NVIDIA GeForce RTX 9", 7)
    assert "no choices are shipped" in parallel_decode.pin_kernels(torch.device("cuda"))
    assert environment["LUTSMITH_TUNING"] == "off"
