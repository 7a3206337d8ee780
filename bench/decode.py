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
  fused         the same with q, k, v in one launch and gate, up and their activation in another (lutsmith.nn.fuse);
                for lutsmith's weights
  compiled      as transformers, by torch.compile, which takes minutes. Where it cannot, as without Triton or a compiler
                for C++, the step runs as it is, its row says "not compiled", and --json why

With --peers bitsandbytes,humming, 4-bit layers of those libraries are measured in the same steps (peer_weights.py). A step
that no CUDA graph can hold runs without, and its rows say "eager": they have the CPU's work in them, which a graph leaves
out.

Prefill is one sequence: the time to the first token, the median of several runs with the least and the most of them. The
lean step's is a CUDA graph, for without one a short prompt waits for the CPU; transformers' is without, and scatters. "linear" and "attention" are what a step's
products and its attention take alone; "floor" is what reading weights, K and V once takes at the memory's nominal
bandwidth.

With --tensor-parallel 1,2,4 the lean step runs on so many GPUs, one process each (parallel_decode.py).

Needs the package, transformers and, for figures that mean something, a GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator

import parallel_decode
import torch
import transformers
from decode_figures import REPLAYS, ROUNDS, Figures, Timer, compare, machine, milliseconds, nominal_bandwidth, spread
from decoder_weights import (
    CONFIGURATIONS,
    Weights,
    configuration,
    random_model,
    with_16_bits,
    with_lutsmith,
)
from lean_decoder import LeanDecoder
from parallel_decoder import checked_configuration
from peer_weights import PEERS, imported, with_peer
from torch import Tensor

import lutsmith
import lutsmith.nn

STEPS = ("lean", "transformers", "fused", "compiled")
#: Of a step of transformers, before it is timed; each takes a place in the cache.
CALLS_BEFORE = 8
#: Of what torch.compile says, which may be pages; what went wrong comes first.
REASON_LENGTH = 300
#: Beside the weights of a row that has such an entry.
NOTES = {"eager": "eager", "not_compiled": "not compiled"}


class Bench(Figures):
    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__(arguments)
        self.timer = Timer(self.device)
        config = configuration(arguments.model, arguments.layers)
        self.model = random_model(config, getattr(torch, arguments.dtype), self.device)
        self.head_bytes = self.model.lm_head.weight.nbytes
        self.bandwidth = nominal_bandwidth(self.device)

    def all_weights(self) -> Iterator[Weights]:
        original = with_16_bits(self.model)
        yield original
        for bits in self.arguments.bits:
            gemma = self.model.config.model_type == "gemma2"
            yield with_lutsmith(original, bits, self.arguments.group, "gelu_tanh" if gemma else "silu")
        for peer in self.arguments.peers:  # last: one may compile for minutes, or scatter its steps
            yield with_peer(peer, original)

    def run(self) -> None:
        for weights in self.all_weights():
            gigabytes = f"{weights.bytes / 1e9:.2f} GB in linear layers, head {self.head_bytes / 1e9:.2f} GB"
            self.log(f"{weights.name}: {gigabytes}")
            if self.device.type == "cuda" and weights.name.startswith("lutsmith"):
                modules = [list(one.values()) for one in weights.plain] + [list(one) for one in weights.lean]
                tokens = [*self.arguments.batch, *self.arguments.prefill]
                added = [module.packed_weights() for one in weights.lean for module in (one.o, one.down)]
                for prepared in (
                    lutsmith.prepare([module for layer in modules for module in layer], tokens, progress=False),
                    lutsmith.prepare(added, tokens, progress=False, residual=True),
                ):
                    self.log(f"{prepared.kernels} kernels, {prepared.compiled} compiled in {prepared.seconds:.1f} s")
            for step in self.arguments.step:
                if step == "fused" and not weights.name.startswith("lutsmith"):
                    continue
                weights.put_into(self.model)
                if step == "fused":
                    lutsmith.nn.fuse(self.model)
                for measure in self.measures(weights, step):
                    if self.out_of_time:
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
        time_of_step = self.timer.per_run(run.again)
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
        self.decoded(weights, "lean", batch, context, time_of_step, difference, run.eager, **parts)

    @property
    def compiles(self) -> bool:
        return self.device.type == "cuda" and not self.arguments.no_compile

    def transformers_step(self, weights: Weights, kind: str, batch: int, context: int) -> None:
        first = torch.randint(0, self.model.config.vocab_size, (batch, 1), device=self.device)
        tokens = first.clone()

        def warmed(model: Callable) -> tuple[transformers.StaticCache, Callable[[], Tensor]]:
            cache = transformers.StaticCache(
                config=self.model.config, max_cache_len=context + ROUNDS * REPLAYS + CALLS_BEFORE
            )

            def step() -> Tensor:
                logits = model(input_ids=tokens, past_key_values=cache, use_cache=True).logits[:, -1]
                tokens.copy_(logits.argmax(-1, keepdim=True))
                return logits

            self.timer.warm(step)
            return cache, step

        started = time.monotonic()
        notes: dict[str, object] = {}
        if kind == "compiled":
            # Without "reduce-overhead", which captures graphs of its own. What was compiled for other weights counts
            # towards a limit behind which torch runs eagerly and says nothing.
            torch.compiler.reset()
            try:
                cache, step = warmed(torch.compile(self.model))
            except Exception as refused:
                # Such as by an inductor that finds no Triton, or no compiler for C++.
                torch.compiler.reset()
                notes["not_compiled"] = f"{type(refused).__name__}: {str(refused).strip()[:REASON_LENGTH]}"
                cache, step = warmed(self.model)
        else:
            cache, step = warmed(self.model)
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
        if kind == "compiled":
            notes["compile_s"] = time.monotonic() - started
        rewind()
        expected = step()
        rewind()
        run = self.timer.captured(step, weights.must_be_captured)
        rewind()
        run.again()
        difference = compare(run.result, expected, f"{weights.name}, {kind}, batch {batch}")
        self.decoded(weights, kind, batch, context, self.timer.per_run(run.again), difference, run.eager, **notes)

    def decoded(
        self,
        weights: Weights,
        step: str,
        batch: int,
        context: int,
        time_of_step: float,
        difference: float,
        eager: str | None,
        **more: object,
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
            ms=time_of_step,
            tokens_per_s=batch / time_of_step * 1e3,
            **more,
            **floor,
            weight_bytes=weights.bytes,
            difference=difference,
            **({} if eager is None else {"eager": eager}),
        )

    def prefill(self, weights: Weights, step: str, count: int) -> None:
        tokens = torch.randint(0, self.model.config.vocab_size, (1, count), device=self.device)
        if step == "lean":
            lean = LeanDecoder(self.model, weights.lean, 1, count, self.compiles)

            def run() -> Tensor:
                return lean.forward(tokens, 0)
        else:

            def run() -> Tensor:
                return self.model(input_ids=tokens, use_cache=True, logits_to_keep=1).logits

        self.timer.warm(run)
        again, eager = run, None
        if step == "lean":
            again, _, eager = self.timer.captured(run, must_be=False)
        times = self.timer.each(again, runs=1, rounds=self.arguments.prefill_runs)
        notes = {} if eager is None else {"eager": eager}
        self.add(weights=weights.name, step=step, prefill=count, **spread(times), weight_bytes=weights.bytes, **notes)

    def table(self) -> None:
        print(f"\n{self.arguments.model}, {self.model.config.num_hidden_layers} layers, {machine(self.device)}\n")
        print("| step | work | weights | GB | ms | tokens/s | of 16 bits | linear | attention | rest | floor |")
        print("|---|---|---|---|---|---|---|---|---|---|---|")

        def work(row: dict) -> tuple:
            return row["step"], row.get("prefill", 0), row.get("context", 0), row.get("batch", 0)

        def of_16_bits(row: dict) -> tuple:
            """They are not fused."""
            return work({**row, "step": "transformers"} if row["step"] == "fused" else row)

        done = [row for row in self.rows if "ms" in row]
        baseline = {work(row): row["ms"] for row in done if row["weights"] == "16 bits"}
        for row in sorted(done, key=work):
            prefill = row.get("prefill")
            what = f"prefill {prefill}" if prefill else f"batch {row['batch']}, context {row['context']}"
            rate = (prefill or row["batch"]) / row["ms"] * 1e3
            weights = row["weights"] + "".join(f" ({note})" for key, note in NOTES.items() if key in row)
            cells = [row["step"], what, weights, f"{row['weight_bytes'] / 1e9:.2f}"]
            cells += [milliseconds(row), f"{rate:.0f}"]
            beside = baseline.get(of_16_bits(row))
            cells.append("" if beside is None else f"{beside / row['ms']:.2f}x")
            rest = row["ms"] - row["linear"] - row["attention"] if "linear" in row else None
            for value in (row.get("linear"), row.get("attention"), rest, row.get("floor")):
                cells.append("" if value is None else f"{value:.3f}")
            print("| " + " | ".join(cells) + " |")


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
    parser.add_argument("--prefill-runs", type=int, default=10)
    parser.add_argument("--step", type=words, default=["lean", "transformers"], metavar=",".join(STEPS))
    parser.add_argument("--tensor-parallel", type=numbers, metavar="1,2", help="the lean step on so many GPUs")
    parser.add_argument(
        "--peers", type=words, default=[], metavar=",".join(PEERS), help="measure 4 bits of those packages, too"
    )
    parser.add_argument("--no-compile", action="store_true", help="leave the lean step's pieces to torch as they are")
    parser.add_argument("--device", default="cuda", help="on the CPU only what is computed is of interest")
    parser.add_argument("--seconds", type=float, default=100, help="begin nothing new afterwards")
    parser.add_argument("--json", metavar="FILE", help="written anew with every figure")
    arguments = parser.parse_args(given)
    for option, given_words, allowed in (("step", arguments.step, STEPS), ("peers", arguments.peers, tuple(PEERS))):
        unknown = set(given_words) - set(allowed)
        if unknown:
            parser.error(f"--{option}: {', '.join(sorted(unknown))} is not allowed; allowed: {', '.join(allowed)}")
    for peer in arguments.peers:
        try:
            imported(peer)  # before a model is built
        except ImportError as missing:
            parser.error(f"--peers: {missing}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU; --device cpu --model tiny tries the script without one")
    for ranks in arguments.tensor_parallel or ():
        if arguments.device == "cuda" and torch.cuda.device_count() < ranks:
            parser.error(f"--tensor-parallel: {ranks} GPUs are asked for, torch finds {torch.cuda.device_count()}")
        try:
            checked_configuration(arguments.model, arguments.layers, ranks)
        except ValueError as uneven:
            parser.error(f"--tensor-parallel: {uneven}")
    return arguments


def main(given: list[str]) -> int:
    arguments = parsed(given)
    warnings.filterwarnings("ignore")
    if arguments.tensor_parallel:
        figures: Figures = parallel_decode.measure(arguments)
        parallel_decode.table(figures)
    else:
        with torch.no_grad():
            figures = Bench(arguments)
            figures.log(f"{arguments.model} is built")
            figures.run()
        figures.table()
    return 1 if any("failed" in row for row in figures.rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
