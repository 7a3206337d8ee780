#!/usr/bin/env python3
"""What a call of lutsmith.matmul costs the CPU in eager mode, beside an operator that computes nothing.

    python bench/launch_overhead.py [--calls 2000] [--rounds 20]

Both are registered by torch.library and return a new tensor. So are calls with the argument batch_invariant: False
beside a call without it is what the argument costs, True beside False what choosing its kernel costs. Needs a GPU, the
package and torch. Each round times so many calls of each in turn and waits for the GPU, so that no call waits for room
in its queue; of the rounds the fastest counts, and of differences the median, as the clock wanders between them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import lutsmith
import lutsmith.operators

AT_ONCE = 200  # fewer than a stream holds

library = torch.library.Library("lutsmith_bench", "DEF")


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


EMPTY = "an operator that returns an empty tensor"
OPERATOR = "torch.ops.lutsmith.matmul"
OPERATOR_OFF, OPERATOR_ON = f"{OPERATOR}, batch_invariant=False", f"{OPERATOR}, batch_invariant=True"
MATMUL = "lutsmith.matmul"
MATMUL_OFF, MATMUL_ON = f"{MATMUL}, batch_invariant=False", f"{MATMUL}, batch_invariant=True"
#: What is said of two calls, the second of which is taken from the first.
DIFFERENCES = {
    "of the operator's own": (OPERATOR, EMPTY),
    "of the operator's argument batch_invariant, False": (OPERATOR_OFF, OPERATOR),
    "of a batch-invariant kernel, by the operator": (OPERATOR_ON, OPERATOR_OFF),
    "of matmul's argument batch_invariant, False": (MATMUL_OFF, MATMUL),
    "of a batch-invariant kernel, by matmul": (MATMUL_ON, MATMUL_OFF),
}


def calls_to_time(device: str) -> dict[str, Callable[[], object]]:
    packed = lutsmith.quantize(torch.randn(512, 1024, dtype=torch.float16)).to(device)
    x = torch.randn(1, 1024, dtype=torch.float16, device=device)
    for batch_invariant in (False, True):
        lutsmith.prepare(packed, tokens=[1], batch_invariant=batch_invariant)
    library.define("empty(Tensor x, Tensor weights, str format, Tensor? bias=None) -> Tensor")
    library.impl("empty", lambda x, weights, format, bias=None: x.new_empty((1, 512)), "CompositeExplicitAutograd")
    given = (x, packed.data, packed.format, None)
    operator, weight = torch.ops.lutsmith.matmul.default, packed.dequantize()
    return {
        EMPTY: lambda: torch.ops.lutsmith_bench.empty.default(*given),
        OPERATOR: lambda: operator(*given),
        OPERATOR_OFF: lambda: operator(*given, False),
        OPERATOR_ON: lambda: operator(*given, True),
        MATMUL: lambda: lutsmith.matmul(x, packed),
        MATMUL_OFF: lambda: lutsmith.matmul(x, packed, batch_invariant=False),
        MATMUL_ON: lambda: lutsmith.matmul(x, packed, batch_invariant=True),
        "torch.nn.functional.linear, 16 bits": lambda: torch.nn.functional.linear(x, weight),
    }


def report(rounds: list[dict[str, float]]) -> str:
    """rounds: of each, microseconds a call by name."""
    lines = [f"{min(times[name] for times in rounds):8.2f} us  {name}" for name in rounds[0]]
    for what, (call, without) in DIFFERENCES.items():
        difference = statistics.median(times[call] - times[without] for times in rounds)
        lines.append(f"{difference:8.2f} us  {what}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    calls = calls_to_time("cuda")
    with torch.inference_mode():
        rounds = [
            {name: per_call(call, arguments.calls) for name, call in calls.items()} for _ in range(arguments.rounds)
        ]
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, lutsmith {lutsmith.__version__}")
    print(report(rounds))


if __name__ == "__main__":
    main()
