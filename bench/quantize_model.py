#!/usr/bin/env python3
"""How long a whole model takes to be quantized, and how much memory of the host.

    python bench/quantize_model.py [--model llama3.1-8b] [--methods nf gptq+nf] [--json FILE]

The shapes are the model's, the numbers random. The model lies on the GPU. Methods, all with groups of --group and --bits:

  nf        rounding to nearest of every linear layer of the decoder (lutsmith.quantize: the work is the CPU's)
  gptq+nf   error feedback with the same table, decoder layer by decoder layer, each on what the ones before it have
            become (lutsmith.calibration.block_by_block, lutsmith.gptq), calibrated on --tokens random tokens

Every layer takes over what its packed weights stand for; the packed bytes are kept in host memory, as they would be
before they are written. What is printed: seconds, and the largest resident memory of the process so far, which has
torch's libraries in it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator

import torch
from decoder_weights import CONFIGURATIONS, configuration, random_model

import lutsmith
from lutsmith.calibration import block_by_block
from lutsmith.gptq import quantize_with_feedback
from lutsmith.model_layers import packable_layers

METHODS = ("nf", "gptq+nf")
GIB = 2**30
SECONDS_BETWEEN_LINES = 15  # of a log; on a terminal one line is written over and over


def peak_of_host() -> int:
    """Bytes, of the process from its start."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def packed_by(method: str, model: torch.nn.Module, given: argparse.Namespace) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and packed bytes, in host memory, of layer after layer, which stand for what its weight has become."""
    settings = {"bits": given.bits, "group": given.group}
    if method == "nf":
        for name, layer in packable_layers(model).items():
            packed = lutsmith.quantize(layer.weight, **settings)
            layer.weight.data = packed.dequantize(layer.weight.dtype)
            yield name, packed.data.cpu()
        return
    generator = torch.Generator().manual_seed(given.seed)
    shape = (given.tokens // given.length, given.length)
    tokens = torch.randint(model.config.vocab_size, shape, generator=generator)
    for name, layer, seen in block_by_block(model, list(tokens.split(given.sequences)), hessians=True):
        packed = quantize_with_feedback(layer.weight, seen.hessian, **settings).packed
        seen.hessian = None  # 4 * K**2 bytes that the next layers need
        layer.weight.data = packed.dequantize(layer.weight.dtype)
        yield name, packed.data.cpu()


def measure(method: str, given: argparse.Namespace) -> dict[str, object]:
    model = random_model(configuration(given.model, given.layers), getattr(torch, given.dtype), torch.device(given.device))
    count = len(packable_layers(model))
    start = time.monotonic()
    told = 0.0
    kept = {}
    for name, data in packed_by(method, model, given):
        kept[name] = data
        seconds = time.monotonic() - start
        over = sys.stderr.isatty() and len(kept) < count
        if over or len(kept) == count or seconds >= told + SECONDS_BETWEEN_LINES:
            told = seconds
            left = seconds / len(kept) * (count - len(kept))
            text = f"{method}: {len(kept)} of {count} layers, {seconds:.0f} s, {left:.0f} s left"
            print(text, end="\r" if over else "\n", file=sys.stderr, flush=True)
    return {
        "model": given.model,
        "decoder_layers": model.config.num_hidden_layers,
        "method": method,
        "bits": given.bits,
        "group": given.group,
        "tokens": 0 if method == "nf" else given.tokens // given.length * given.length,
        "weights": sum(layer.weight.numel() for layer in packable_layers(model).values()),
        "seconds": time.monotonic() - start,
        "packed_bytes": sum(data.nbytes for data in kept.values()),
        "peak_host_bytes": peak_of_host(),
        "processors": len(os.sched_getaffinity(0)),
        "device": torch.cuda.get_device_name() if given.device.startswith("cuda") else given.device,
    }


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=CONFIGURATIONS, default="llama3.1-8b")
    parser.add_argument("--layers", type=int, help="so many decoder layers instead of the model's")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=131072, help="to calibrate on")
    parser.add_argument("--length", type=int, default=2048, help="tokens of a sequence")
    parser.add_argument("--sequences", type=int, default=4, help="of one call")
    parser.add_argument("--seed", type=int, default=0, help="of the tokens")
    parser.add_argument("--dtype", choices=("float16", "bfloat16"), default="float16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", metavar="FILE", help="written anew with every method")
    given = parser.parse_args(arguments)
    if given.tokens < given.length:
        parser.error(f"--tokens {given.tokens}: allowed: at least one sequence, --length {given.length}")
    return given


def main(arguments: list[str] | None = None) -> None:
    given = parsed(arguments)
    rows = []
    for method in given.methods:
        rows.append(measure(method, given))
        row = rows[-1]
        print(
            f"{row['method']}, {row['bits']} bits, groups of {row['group']}: {row['weights'] / 1e9:.2f} billion weights in "
            f"{row['seconds']:.1f} s, {row['packed_bytes'] / GIB:.2f} GiB packed, host memory at most "
            f"{row['peak_host_bytes'] / GIB:.2f} GiB; {row['processors']} processors, {row['device']}",
            flush=True,
        )
        if given.json:
            with open(given.json, "w") as file:
                json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
