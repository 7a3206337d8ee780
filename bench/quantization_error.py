"""What each table leaves of random weights: squared error over their squares, by bits.

    python bench/quantization_error.py

Of normal weights and, in brackets, of weights with heavy tails: Student's t with 4 degrees of freedom. Needs no GPU.
"""

from __future__ import annotations

import argparse

import torch

import lutsmith

TABLES: tuple[tuple[str, str | None, dict[str, str]], ...] = (
    ("nf", "absmax", {}),
    ("int", "absmax", {}),
    ("nf", "mse", {}),
    ("int", "mse", {}),
    ("lloyd", "mse", {}),
    ("kmeans", "mse", {}),
    ("hqq", None, {}),
    ("higgs", "rms", {"table": "scalar"}),
    ("higgs", "rms", {"table": "pair"}),
    ("higgs", "mse", {"table": "pair"}),
)


def random_weights(n: int, k: int) -> list[torch.Tensor]:
    """Normal, and Student's t."""
    generator = torch.Generator().manual_seed(0)
    normal, numerator = torch.randn(2, n, k, generator=generator)
    squares = torch.zeros(n, k)
    for _ in range(4):
        squares += torch.randn(n, k, generator=generator).square()
    return [normal, numerator / (squares / 4).sqrt()]


def relative_error(weight: torch.Tensor, packed: lutsmith.PackedWeight) -> float:
    return float((packed.dequantize(torch.float32) - weight).square().sum() / weight.square().sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", default="2,3,4")
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--k", type=int, default=4096)
    arguments = parser.parse_args()
    bits = [int(each) for each in arguments.bits.split(",")]
    weights = random_weights(arguments.n, arguments.k)
    print("| table | scales | " + " | ".join(f"{each} bits" for each in bits) + " |")
    print("|---|---|" + "---|" * len(bits))
    for method, scales, more in TABLES:
        cells = []
        for each in bits:
            errors = [
                relative_error(weight, lutsmith.quantize(weight, method, each, arguments.group, scales=scales, **more))
                for weight in weights
            ]
            normal, heavy = (f"{error:.5f}".removeprefix("0") for error in errors)
            cells.append(f"{normal} ({heavy})")
        print(f"| {' '.join((method, *more.values()))} | {scales or 'its own'} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
