#!/usr/bin/env python3
"""What a model takes that transformers quantizes while it loads: seconds, and memory beside its packed bytes.

    python bench/load_model.py [--model llama3.1-8b] [--folder FOLDER]

A model of random weights in a known shape is saved in 16 bits and loaded with LutsmithConfig, as in docs/python.md. What
is printed: seconds of loading; GPU memory that torch has allocated then, and after generating a few tokens, less all that
is not packed (embeddings, head, norms), relative to the packed bytes; and the largest resident memory of the process,
which has pages of the mapped checkpoint in it.
"""

from __future__ import annotations

import argparse
import gc
import resource
import tempfile
import time

import torch
import transformers
from decoder_weights import CONFIGURATIONS, configuration

import lutsmith
from lutsmith.transformers import LutsmithConfig

GIB = 2**30
GENERATED = 8


def save_random(given: argparse.Namespace, folder: str) -> None:
    torch.manual_seed(1)
    with torch.device(given.device):
        model = transformers.AutoModelForCausalLM.from_config(
            configuration(given.model, given.layers), dtype=torch.bfloat16
        )
    model.save_pretrained(folder, max_shard_size="2GB")


def bytes_of(model: torch.nn.Module) -> tuple[int, int]:
    """Of packed weights, and of everything else; shared memory once."""
    tensors = {tensor.data_ptr(): tensor for tensor in [*model.parameters(), *model.buffers()]}
    packed = sum(tensor.nbytes for tensor in tensors.values() if tensor.dtype == torch.uint8)
    return packed, sum(tensor.nbytes for tensor in tensors.values()) - packed


def settled() -> int:
    """Bytes that torch has allocated on the GPU; 0 without one."""
    gc.collect()
    if not torch.cuda.is_available():
        return 0
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated()


def measure(given: argparse.Namespace, folder: str) -> None:
    save_random(given, folder)
    before = settled()
    start = time.monotonic()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        quantization_config=LutsmithConfig(bits=given.bits, group=given.group),
        device_map=given.device,
        dtype=torch.bfloat16,
    )
    loaded = settled()
    seconds = time.monotonic() - start
    packed, rest = bytes_of(model)
    print(
        f"{given.model}, {given.bits} bits, groups of {given.group}: loaded in {seconds:.1f} s, "
        f"{packed / GIB:.2f} GiB packed, {rest / GIB:.2f} GiB of everything else"
    )
    lutsmith.prepare(model, tokens=[1, 16], progress=False)
    tokens = torch.randint(model.config.vocab_size, (1, 16), device=model.device)
    with torch.no_grad():
        model.generate(tokens, max_new_tokens=GENERATED, do_sample=False)
    if torch.cuda.is_available():
        for when, allocated in (("loaded", loaded), ("has generated", settled())):
            over = (allocated - before - rest) / packed - 1
            print(f"GPU memory where it {when}: {over:.2%} more than the packed bytes")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"host memory at most {peak / GIB:.2f} GiB; {device}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=CONFIGURATIONS, default="llama3.1-8b")
    parser.add_argument("--layers", type=int, help="so many decoder layers instead of the model's")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--folder", help="for the saved model, 16 GB of 8 billion weights; default: a temporary one")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args(arguments)
    if given.folder is not None:
        measure(given, given.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(given, folder)


if __name__ == "__main__":
    main()
