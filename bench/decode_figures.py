"""Figures of bench/decode.py: how they are timed, kept and written."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import transformers
from torch import Tensor

import lutsmith

REPLAYS = 12
ROUNDS = 2
#: Of the logits of a replay from those of the step without a graph, relative to their norm: kernels may differ.
ALLOWED_DIFFERENCE = 0.01


class Run(NamedTuple):
    """What runs a call again."""

    again: Callable[[], object]
    result: Tensor | None  #: every run writes it anew
    eager: str | None = None  #: why there is no graph, on a GPU


class Timer:
    """Milliseconds of what is enqueued on a GPU, as a graph where it can; on the CPU of a call."""

    def __init__(self, device: torch.device, capture_mode: str = "global") -> None:
        """capture_mode: which of the process's threads may do nothing during a capture that it could not hold, as for
        torch.cuda.graph."""
        self.on_gpu = device.type == "cuda"
        self._capture_mode = capture_mode
        self._stream = torch.cuda.Stream() if self.on_gpu else None

    def warm(self, call: Callable[[], object]) -> None:
        if not self.on_gpu:
            call()
            return
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            call()
        torch.cuda.current_stream().wait_stream(self._stream)
        torch.cuda.synchronize()

    def captured(self, call: Callable[[], Tensor | None], must_be: bool = True) -> Run:
        """`call` has been warmed. Where it cannot be captured and need not be, it runs eagerly."""
        if not self.on_gpu:
            return self._eager(call)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, capture_error_mode=self._capture_mode):
                result = call()
        except Exception as refused:
            if must_be:
                raise
            torch.cuda.synchronize()
            return self._eager(call, f"{type(refused).__name__}: {refused}")
        return Run(graph.replay, result)

    @staticmethod
    def _eager(call: Callable[[], Tensor | None], reason: str | None = None) -> Run:
        result: dict[str, Tensor] = {}

        def again() -> None:
            now = call()
            if isinstance(now, Tensor):
                result.setdefault("is", torch.empty_like(now)).copy_(now)

        again()
        return Run(again, result.get("is"), reason)

    def each(self, run: Callable[[], object], runs: int, rounds: int) -> list[float]:
        """Milliseconds of a run, for each round of so many, behind one another."""
        times = []
        for _ in range(rounds):
            if self.on_gpu:
                start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                start.record()
                for _ in range(runs):
                    run()
                end.record()
                torch.cuda.synchronize()
                milliseconds = start.elapsed_time(end)
            else:
                begin = time.perf_counter()
                for _ in range(runs):
                    run()
                milliseconds = (time.perf_counter() - begin) * 1e3
            times.append(milliseconds / runs)
        return times

    def per_run(self, run: Callable[[], object], runs: int = REPLAYS, rounds: int = ROUNDS) -> float:
        """Of the fastest round."""
        return min(self.each(run, runs, rounds))


def compare(replayed: Tensor, expected: Tensor, what: str) -> float:
    difference = relative_difference(replayed, expected)
    if not difference <= ALLOWED_DIFFERENCE:
        raise RuntimeError(f"{what}: the replay's logits differ from the step's by {difference:.2%}")
    return difference


def relative_difference(given: Tensor, expected: Tensor) -> float:
    return ((given.float() - expected.float()).norm() / expected.float().norm()).item()


def spread(times: Sequence[float]) -> dict[str, object]:
    """What scatters, as a row has it."""
    return {"ms": statistics.median(times), "least": min(times), "most": max(times), "runs": len(times)}


class Figures:
    """Rows, written anew to a file with every one that is added."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.device = torch.device(arguments.device)
        self.started = time.monotonic()
        self.rows: list[dict] = []

    @property
    def out_of_time(self) -> bool:
        return time.monotonic() - self.started > self.arguments.seconds

    def log(self, text: str) -> None:
        print(f"[{time.monotonic() - self.started:5.1f} s] {text}", flush=True)

    def add(self, **row: object) -> None:
        self.log(described(row))
        self.keep(row)

    def keep(self, row: dict) -> None:
        self.rows.append(row)
        if self.arguments.json:
            document = {"machine": machine(self.device), "arguments": vars(self.arguments), "rows": self.rows}
            with open(self.arguments.json, "w") as file:
                json.dump(document, file, indent=1)


def described(row: dict) -> str:
    return ", ".join(f"{key} {_short(value)}" for key, value in row.items())


def _short(value: object) -> str:
    if isinstance(value, list):
        return "[" + " ".join(map(_short, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def milliseconds(row: dict) -> str:
    """Of a cell: what scatters with its least and its most."""
    return f"{row['ms']:.3f}" + (f" ({row['least']:.3f} to {row['most']:.3f})" if "least" in row else "")


def nominal_bandwidth(device: torch.device) -> float | None:
    """Bytes a second, where torch knows: both edges of the memory's clock carry data."""
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    clock, width = getattr(properties, "memory_clock_rate", None), getattr(properties, "memory_bus_width", None)
    return 2 * clock * 1e3 * width / 8 if clock and width else None


def machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    versions = {"torch": torch, "transformers": transformers, "lutsmith": lutsmith}
    if "bitsandbytes" in sys.modules:
        versions["bitsandbytes"] = sys.modules["bitsandbytes"]
    return ", ".join([name, *(f"{library} {module.__version__}" for library, module in versions.items())])
