"""A made-up document of `lutsmith bench --json`: times that nobody measured, on a GPU called so.

    example_bench.py > example.json
"""

import json
import math
import sys

TOKENS = (1, 2, 4, 8, 12, 16, 17, 24, 32, 48, 64, 65, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096)
LAYERS = {  # of a model of two sizes: layer, n, k
    "llama3.1-8b": (("qkv", 6144, 4096), ("o", 4096, 4096), ("gate_up", 28672, 4096), ("down", 4096, 14336)),
    "qwen2.5-7b": (("qkv", 4608, 3584), ("o", 3584, 3584), ("gate_up", 37888, 3584), ("down", 3584, 18944)),
}
SCHEDULE = {"tile_rows": 32, "tile_tokens": 8, "warps": 8, "weights": "registers", "stages": 2, "blocks_per_multiprocessor": 1,
            "dependent_launch": False}
MADE_UP = dict(gpu="Example GPU, times made up", target="sm_90a", multiprocessors=132, l2_bytes=52428800, driver=13000,
               cublas=130100, library="0.0.0", measured="2026-01-02T03:04:05Z")


def padded(m, tile):
    return math.ceil(m / tile) * tile


def times(n, k, m):
    """Microseconds of the kernel, cuBLAS and the floor: launch, bytes over bandwidth, arithmetic over its rate."""
    weights, reads = n * k, 2.8e6
    floor = 1.3 + weights * 0.52 / reads
    arithmetic = 2 * weights / 6.2e8
    cublas = 2.8 + max(weights * 2 / reads, arithmetic * padded(m, 64)) + m * (n + k) * 2 / reads
    tile = 8 if m <= 16 else 64
    slowdown = 1.25 if tile == 8 else 1.02
    kernel = 1.9 + max(weights * 0.56 / reads, arithmetic * slowdown * padded(m, tile)) + m * (n + k) * 2 / reads
    return kernel, cublas, floor


def row(model, tp, layer, n, k, m):
    kernel, cublas, floor = times(n, k, m)
    return {
        "model": model, "tp": tp, "layer": layer, "count": 32,
        "spec": {"bits": 4, "group": 128, "n": n, "k": k, "m": m, "dtype": "f16", "table": "scalar", "target": "sm_90a"},
        "schedule": SCHEDULE, "partitions": 132, "default": True, "bytes": n * k // 2,
        "microseconds": round(kernel, 3), "cublas_microseconds": round(cublas, 3), "floor_microseconds": round(floor, 3),
        "floor_dependent_microseconds": None,
    }


def find(document, layer, m, tp=1, model="llama3.1-8b"):
    return next(row for row in document["rows"]
                if (row["model"], row["tp"], row["layer"], row["spec"]["m"]) == (model, tp, layer, m))


def example(tensor_parallel=(1, 2), tokens=TOKENS):
    """With a point slower than cuBLAS (o at 96), a cliff (down at 12, longer than at 16) and a failure (qkv at 4096)."""
    rows = []
    for model, layers in LAYERS.items():
        for tp in tensor_parallel:
            for layer, n, k in layers:
                n, k = (n, k // tp) if layer in ("o", "down") else (n // tp, k)
                rows += [row(model, tp, layer, n, k, m) for m in tokens]
    document = {**MADE_UP, "rows": rows}
    slow = find(document, "o", 96)
    slow["microseconds"] = round(slow["cublas_microseconds"] / 0.8, 3)
    cliff = find(document, "down", 12)
    cliff["microseconds"] = round(1.5 * find(document, "down", 16)["microseconds"], 3)
    failed = find(document, "qkv", 4096)
    for name in list(failed):
        if name not in ("model", "tp", "layer", "count", "spec", "partitions"):
            del failed[name]
    failed["partitions"] = 0
    failed["error"] = {"code": "cuda_error", "message": "the result is wrong: <b>0.4</b>", "context": ""}
    return document


if __name__ == "__main__":
    json.dump(example(), sys.stdout)
