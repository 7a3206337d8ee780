#!/usr/bin/env python3
"""Tokens per second of a decoder with 16-bit weights, lutsmith's and others, the same model in the same process.

    python bench/decode.py [--model llama3.1-8b] [--batch 1,4,16,64] [--bits 4,3,2] [--json decode.json]

The shapes are the model's, the numbers random. Only the first layer's weights are quantized; the other layers have
copies of them in memory of their own, so that a model is packed in a second and no layer finds its weights in a cache.
Decoding is greedy, one CUDA graph a step, which is replayed and compared with the step that was run without a graph.
Steps:

  lean          the products with as little around them as torch allows: q, k, v are one product, gate and up another;
                K and V are not expanded; the rest is compiled (lean_decoder.py)
  transformers  the model of transformers as it is, with its StaticCache
  compiled      the same by torch.compile, which takes minutes

With --bitsandbytes, NF4 of that library is measured in the same steps. One that no CUDA graph can hold runs without, and
its rows say "eager": they have the CPU's work in them, which a graph leaves out.

Prefill is one sequence, without a graph: the time to the first token. "linear" and "attention" are what a step's
products and its attention take alone; "floor" is what reading weights, K and V once takes at the memory's nominal
bandwidth. Needs the package, transformers and, for figures that mean something, a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import transformers
from decoder_weights import (
    CONFIGURATIONS,
    Weights,
    import_bitsandbytes,
    random_model,
    with_16_bits,
    with_bitsandbytes,
    with_lutsmith,
)
from lean_decoder import LeanDecoder
from torch import Tensor

import lutsmith

REPLAYS = 12
ROUNDS = 2
PREFILL_RUNS = 3
#: Of the logits of a replay from those of the step without a graph, relative to their norm: kernels may differ.
ALLOWED_DIFFERENCE = 0.01


class Run(NamedTuple):
    """What runs a call again."""

    again: Callable[[], object]
    result: Tensor | None  #: every run writes it anew
    eager: str | None = None  #: why there is no graph, on a GPU


class Timer:
    """Milliseconds of what is enqueued on a GPU, as a graph where it can; on the CPU of a call."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
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
            with torch.cuda.graph(graph):
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

    def per_run(self, run: Callable[[], object], runs: int = REPLAYS, rounds: int = ROUNDS) -> float:
        best = float("inf")
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
            best = min(best, milliseconds / runs)
        return best


def compare(replayed: Tensor, expected: Tensor, what: str) -> float:
    difference = ((replayed.float() - expected.float()).norm() / expected.float().norm()).item()
    if not difference <= ALLOWED_DIFFERENCE:
        raise RuntimeError(f"{what}: the replay's logits differ from the step's by {difference:.2%}")
    return difference


class Bench:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.device = torch.device(arguments.device)
        self.timer = Timer(self.device)
        self.started = time.monotonic()
        config = CONFIGURATIONS[arguments.model]()
        if arguments.layers:
            config.num_hidden_layers = arguments.layers
            if getattr(config, "layer_types", None):
                config.layer_types = config.layer_types[: arguments.layers]
        self.model = random_model(config, getattr(torch, arguments.dtype), self.device)
        self.head_bytes = self.model.lm_head.weight.nbytes
        self.bandwidth = nominal_bandwidth(self.device)
        self.rows: list[dict] = []

    def log(self, text: str) -> None:
        print(f"[{time.monotonic() - self.started:5.1f} s] {text}", flush=True)

    def add(self, **row: object) -> None:
        self.rows.append(row)
        self.log(", ".join(f"{key} {_short(value)}" for key, value in row.items()))
        if self.arguments.json:
            document = {"machine": machine(self.device), "arguments": vars(self.arguments), "rows": self.rows}
            with open(self.arguments.json, "w") as file:
                json.dump(document, file, indent=1)

    def all_weights(self) -> Iterator[Weights]:
        original = with_16_bits(self.model)
        yield original
        if self.arguments.bitsandbytes:
            yield with_bitsandbytes(original)
        for bits in self.arguments.bits:
            yield with_lutsmith(original, bits, self.arguments.group)

    def run(self) -> None:
        for weights in self.all_weights():
            gigabytes = f"{weights.bytes / 1e9:.2f} GB in linear layers, head {self.head_bytes / 1e9:.2f} GB"
            self.log(f"{weights.name}: {gigabytes}")
            if self.device.type == "cuda" and weights.name.startswith("lutsmith"):
                modules = [list(one.values()) for one in weights.plain] + [list(one) for one in weights.lean]
                prepared = lutsmith.prepare(
                    [module.packed_weights() for layer in modules for module in layer],
                    tokens=[*self.arguments.batch, *self.arguments.prefill],
                    progress=False,
                )
                self.log(f"{prepared.kernels} kernels, {prepared.compiled} compiled in {prepared.seconds:.1f} s")
            weights.put_into(self.model)
            for step in self.arguments.step:
                for measure in self.measures(weights, step):
                    if time.monotonic() - self.started > self.arguments.seconds:
                        self.log(f"left out after {self.arguments.seconds} s: {weights.name}, {step} and what follows")
                        return
                    try:
                        measure()
                    except Exception as failed:  # the others are measured nevertheless
                        self.add(weights=weights.name, step=step, failed=f"{type(failed).__name__}: {failed}")
                    if self.device.type == "cuda":
                        torch.cuda.empty_cache()

    def measures(self, weights: Weights, step: str) -> Iterator[Callable[[], None]]:
        for context in self.arguments.context:
            for batch in self.arguments.batch:
                if step == "lean":
                    yield lambda batch=batch, context=context: self.lean_step(weights, batch, context)
                else:
                    yield lambda batch=batch, context=context: self.transformers_step(weights, step, batch, context)
        if step != "compiled":
            for tokens in self.arguments.prefill:
                yield lambda tokens=tokens: self.prefill(weights, step, tokens)

    def lean_step(self, weights: Weights, batch: int, context: int) -> None:
        lean = LeanDecoder(self.model, weights.lean, batch, context + 1, self.compiles)
        for keys, values in lean.cache:
            keys.normal_()
            values.normal_()
        tokens = torch.randint(0, self.model.config.vocab_size, (batch, 1), device=self.device)

        def step() -> Tensor:
            return lean.decode(context)

        lean.tokens.copy_(tokens)
        self.timer.warm(step)
        lean.tokens.copy_(tokens)
        expected = step()
        run = self.timer.captured(step, weights.must_be_captured)
        lean.tokens.copy_(tokens)
        run.again()
        difference = compare(run.result, expected, f"{weights.name}, lean, batch {batch}")
        milliseconds = self.timer.per_run(run.again)
        config = self.model.config
        x = torch.randn(batch, 1, config.hidden_size, device=self.device).to(expected.dtype)
        attended = torch.randn(batch, 1, lean.heads * lean.dim, device=self.device).to(x.dtype)
        inner = torch.randn(batch, 1, config.intermediate_size, device=self.device).to(x.dtype)
        q = attended.view(batch, lean.heads, 1, lean.dim)
        parts = {}
        for part, call in {
            "linear": lambda: lean.only_linear(x, attended, inner),
            "attention": lambda: lean.only_attention(q, context + 1),
        }.items():
            self.timer.warm(call)
            parts[part] = self.timer.per_run(self.timer.captured(call, weights.must_be_captured).again, rounds=1)
        self.decoded(weights, "lean", batch, context, milliseconds, difference, run.eager, **parts)

    @property
    def compiles(self) -> bool:
        return self.device.type == "cuda" and not self.arguments.no_compile

    def transformers_step(self, weights: Weights, kind: str, batch: int, context: int) -> None:
        run_model = torch.compile(self.model) if kind == "compiled" else self.model
        runs = ROUNDS * REPLAYS + 8
        cache = transformers.StaticCache(config=self.model.config, max_cache_len=context + runs)
        first = torch.randint(0, self.model.config.vocab_size, (batch, 1), device=self.device)
        tokens = first.clone()

        def step() -> Tensor:
            logits = run_model(input_ids=tokens, past_key_values=cache, use_cache=True).logits[:, -1]
            tokens.copy_(logits.argmax(-1, keepdim=True))
            return logits

        self.timer.warm(step)
        for layer in cache.layers:
            layer.keys.normal_()
            layer.values.normal_()

        def rewind() -> None:
            tokens.copy_(first)
            for layer in cache.layers:
                layer.cumulative_length.fill_(context)
                if hasattr(layer, "cumulative_length_int"):
                    layer.cumulative_length_int = context

        rewind()
        self.timer.warm(step)  # at this context, which may take other kernels
        rewind()
        expected = step()
        rewind()
        run = self.timer.captured(step, weights.must_be_captured)
        rewind()
        run.again()
        difference = compare(run.result, expected, f"{weights.name}, {kind}, batch {batch}")
        self.decoded(weights, kind, batch, context, self.timer.per_run(run.again), difference, run.eager)

    def decoded(
        self,
        weights: Weights,
        step: str,
        batch: int,
        context: int,
        milliseconds: float,
        difference: float,
        eager: str | None,
        **parts: float,
    ) -> None:
        config = self.model.config
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        cached = 2 * config.num_hidden_layers * batch * config.num_key_value_heads * (context + 1) * dim * 2
        read = weights.bytes + self.head_bytes + cached
        floor = {} if self.bandwidth is None else {"floor": read / self.bandwidth * 1e3}
        self.add(
            weights=weights.name,
            step=step,
            batch=batch,
            context=context,
            ms=milliseconds,
            tokens_per_s=batch / milliseconds * 1e3,
            **parts,
            **floor,
            weight_bytes=weights.bytes,
            difference=difference,
            **({} if eager is None else {"eager": eager}),
        )

    def prefill(self, weights: Weights, step: str, count: int) -> None:
        tokens = torch.randint(0, self.model.config.vocab_size, (1, count), device=self.device)
        if step == "lean":
            lean = LeanDecoder(self.model, weights.lean, 1, count, self.compiles)

            def run() -> object:
                return lean.forward(tokens, 0)
        else:

            def run() -> object:
                return self.model(input_ids=tokens, use_cache=True, logits_to_keep=1)

        self.timer.warm(run)
        milliseconds = self.timer.per_run(run, runs=1, rounds=PREFILL_RUNS)
        self.add(weights=weights.name, step=step, prefill=count, ms=milliseconds, weight_bytes=weights.bytes)

    def table(self) -> None:
        print(f"\n{self.arguments.model}, {self.model.config.num_hidden_layers} layers, {machine(self.device)}\n")
        print("| step | work | weights | GB | ms | tokens/s | of 16 bits | linear | attention | rest | floor |")
        print("|---|---|---|---|---|---|---|---|---|---|---|")

        def work(row: dict) -> tuple:
            return row["step"], row.get("prefill", 0), row.get("context", 0), row.get("batch", 0)

        done = [row for row in self.rows if "ms" in row]
        baseline = {work(row): row["ms"] for row in done if row["weights"] == "16 bits"}
        for row in sorted(done, key=work):
            prefill = row.get("prefill")
            what = f"prefill {prefill}" if prefill else f"batch {row['batch']}, context {row['context']}"
            rate = (prefill or row["batch"]) / row["ms"] * 1e3
            weights = row["weights"] + (" (eager)" if "eager" in row else "")
            cells = [row["step"], what, weights, f"{row['weight_bytes'] / 1e9:.2f}"]
            cells += [f"{row['ms']:.3f}", f"{rate:.0f}"]
            cells.append(f"{baseline[work(row)] / row['ms']:.2f}x" if work(row) in baseline else "")
            rest = row["ms"] - row["linear"] - row["attention"] if "linear" in row else None
            for value in (row.get("linear"), row.get("attention"), rest, row.get("floor")):
                cells.append("" if value is None else f"{value:.3f}")
            print("| " + " | ".join(cells) + " |")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def words(text: str) -> list[str]:
    return text.split(",")


def parsed(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=CONFIGURATIONS, default="llama3.1-8b")
    parser.add_argument("--layers", type=int, help="so many instead of the model's")
    parser.add_argument("--bits", type=numbers, default=[4, 3, 2], metavar="4,3,2")
    parser.add_argument("--group", type=int, default=128, help="shipped choices are for 128 and float16")
    parser.add_argument("--dtype", choices=("float16", "bfloat16"), default="float16")
    parser.add_argument("--batch", type=numbers, default=[1, 4, 16, 64], metavar="1,4,16,64")
    parser.add_argument("--context", type=numbers, default=[512], metavar="512", help="tokens before the step")
    parser.add_argument("--prefill", type=numbers, default=[512, 2048], metavar="512,2048")
    parser.add_argument("--step", type=words, default=["lean", "transformers"], metavar="lean,transformers,compiled")
    parser.add_argument("--bitsandbytes", action="store_true", help="measure NF4 of that package, too")
    parser.add_argument("--no-compile", action="store_true", help="leave the lean step's pieces to torch as they are")
    parser.add_argument("--device", default="cuda", help="on the CPU only what is computed is of interest")
    parser.add_argument("--seconds", type=float, default=100, help="begin nothing new afterwards")
    parser.add_argument("--json", metavar="FILE", help="written anew with every figure")
    arguments = parser.parse_args(given)
    unknown = set(arguments.step) - {"lean", "transformers", "compiled"}
    if unknown:
        parser.error(f"--step: {', '.join(sorted(unknown))} is not allowed; allowed: lean, transformers, compiled")
    if arguments.bitsandbytes:
        try:
            import_bitsandbytes()  # before a model is built
        except ImportError as missing:
            parser.error(f"--bitsandbytes: {missing}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU; --device cpu --model tiny tries the script without one")
    return arguments


def main(given: list[str]) -> int:
    arguments = parsed(given)
    warnings.filterwarnings("ignore")
    with torch.no_grad():
        bench = Bench(arguments)
        bench.log(f"{arguments.model} is built")
        bench.run()
    bench.table()
    return 1 if any("failed" in row for row in bench.rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
