"""bench/launch_overhead.py as far as it goes without a GPU: which calls it times, and what it says of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from reference import Products

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import launch_overhead  # noqa: E402


@pytest.fixture(scope="module")
def calls():
    return launch_overhead.calls_to_time("cpu")


def test_every_call_is_made_as_its_name_says(calls):
    expected = {
        launch_overhead.EMPTY: [],
        launch_overhead.OPERATOR: [False],
        launch_overhead.OPERATOR_OFF: [False],
        launch_overhead.OPERATOR_ON: [True],
        launch_overhead.MATMUL: [False],
        launch_overhead.MATMUL_OFF: [False],
        launch_overhead.MATMUL_ON: [True],
        "torch.nn.functional.linear, 16 bits": [],
    }
    assert calls.keys() == expected.keys()
    with torch.inference_mode():
        for name, call in calls.items():
            with Products() as products:
                assert call().shape == (1, 512)
            assert products.batch_invariant == expected[name], name


def test_report_has_the_fastest_round_and_the_median_of_differences(calls):
    names = list(calls)
    rounds = [{name: base + i * step for i, name in enumerate(names)} for base, step in ((10, 1), (50, 3), (20, 2))]
    said = launch_overhead.report(rounds).splitlines()
    assert said[0] == "   10.00 us  an operator that returns an empty tensor"
    assert said[1] == "   11.00 us  torch.ops.lutsmith.matmul"
    assert said[len(names) :] == [f"    2.00 us  {what}" for what in launch_overhead.DIFFERENCES]


def test_calls_are_timed_without_the_wait_for_the_gpu(monkeypatch):
    waits, calls, clock = [], [], [0.0]

    def wait():
        waits.append(len(calls))
        clock[0] += 7

    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    monkeypatch.setattr(launch_overhead.time, "perf_counter", lambda: clock[0])

    def call():
        calls.append(1)
        clock[0] += 3e-6

    assert launch_overhead.per_call(call, 400) == pytest.approx(3, abs=1e-3)
    assert (waits, len(calls)) == ([0, 200, 400], 400)
