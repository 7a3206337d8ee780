#!/usr/bin/env python3
"""What a call of lutsmith.matmul costs the CPU in eager mode, beside an operator that computes nothing.

    python bench/launch_overhead.py [--calls 2000] [--rounds 20]

Both are registered by torch.library and return a new tensor. Needs a GPU, the package and torch. Each round times so
many calls of both in turn and waits for the GPU, so that no call waits for room in its queue; of the rounds the fastest counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

import lutsmith
import lutsmith.operators

AT_ONCE = 200  # fewer than a stream holds


def per_call(call: Callable[[], object], calls: int) -> float:
    """Microseconds."""
    total = 0.0
    for _ in range(0, calls, AT_ONCE):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(AT_ONCE):
            call()
        total += time.perf_counter() - start
    torch.cuda.synchronize()
    return total / calls * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()

    packed = lutsmith.quantize(torch.randn(512, 1024, dtype=torch.float16)).cuda()
    x = torch.randn(1, 1024, dtype=torch.float16, device="cuda")
    lutsmith.prepare(packed, tokens=[1])

    library = torch.library.Library("lutsmith_bench", "DEF")
    library.define("empty(Tensor x, Tensor weights, str format, Tensor? bias=None) -> Tensor")
    library.impl("empty", lambda x, weights, format, bias=None: x.new_empty((1, 512)), "CUDA")
    given = (x, packed.data, packed.format, None)
    calls = {
        "an operator that returns an empty tensor": lambda: torch.ops.lutsmith_bench.empty.default(*given),
        "torch.ops.lutsmith.matmul": lambda: torch.ops.lutsmith.matmul.default(*given),
        "lutsmith.matmul": lambda: lutsmith.matmul(x, packed),
        "torch.nn.functional.linear, 16 bits": lambda weight=packed.dequantize(): torch.nn.functional.linear(x, weight),
    }
    with torch.inference_mode():
        best = dict.fromkeys(calls, float("inf"))
        for _ in range(arguments.rounds):
            for name, call in calls.items():
                best[name] = min(best[name], per_call(call, arguments.calls))
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, lutsmith {lutsmith.__version__}")
    for name, microseconds in best.items():
        print(f"{microseconds:8.2f} us  {name}")
    empty = best["an operator that returns an empty tensor"]
    print(f"{best['torch.ops.lutsmith.matmul'] - empty:8.2f} us  of the operator's own")


if __name__ == "__main__":
    main()
