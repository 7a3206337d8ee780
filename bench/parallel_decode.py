"""The lean step of bench/decode.py on several GPUs, a process for each.

Every number of ranks has processes of its own, the one GPU too, so that all are measured alike. The sums over ranks and
the choice of the next token are NCCL's, captured with the rest of the step. All ranks run the same kernels: where
LUTSMITH_TUNING is not set, those that the GPU's shipped choices name, or else those of the cost model.

A step takes as long as the slowest rank. "linear", "sums" and "attention" are each rank's own, alone: products, the
all-reduces of a step, and attention. How far the logits of several ranks are from those of one, which has the same
weights, stands in a row of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import torch
from decode_figures import Figures, Timer, compare, described, machine, milliseconds, relative_difference, spread
from parallel_decoder import ParallelDecoder, ParallelWeights, Rank, Shard
from torch import Tensor, distributed, multiprocessing

import lutsmith

SHIPPED = Path(__file__).parents[1] / "choices" / "shipped"
#: Of the logits from those of one rank, relative to their norm: shares of sums are rounded before they are added.
ALLOWED_FROM_ONE = {"float16": 0.02, "bfloat16": 0.15}
CHECKED_TOKENS = 8
#: For a rank that another one waits for: it compiles kernels meanwhile.
PATIENCE = timedelta(minutes=5)


def measure(arguments: argparse.Namespace) -> Figures:
    figures = Figures(arguments)
    figures.log(pin_kernels(figures.device))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for ranks in arguments.tensor_parallel:
            if figures.out_of_time:
                figures.log(f"left out after {arguments.seconds} s: {ranks} GPUs and what follows")
                break
            figures.log(f"{ranks} GPUs")
            left = arguments.seconds - (time.monotonic() - figures.started)
            given = (ranks, argparse.Namespace(**{**vars(arguments), "seconds": left}), folder)
            failed = None
            try:
                multiprocessing.spawn(run_rank, given, nprocs=ranks)
            except Exception as ended:  # the other numbers of ranks are measured nevertheless
                failed = ended
            for line in _lines(folder / f"rows.{ranks}"):
                figures.keep(json.loads(line))
            if failed is not None:
                figures.add(tensor_parallel=ranks, failed=f"{type(failed).__name__}: {str(failed).strip()}")
    return figures


def pin_kernels(device: torch.device) -> str:
    """For the processes that are started from now on. Says what was done."""
    if "LUTSMITH_TUNING" in os.environ:
        return f"kernels by LUTSMITH_TUNING={os.environ['LUTSMITH_TUNING']}, as given"
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        words = [*properties.name.lower().split(), str(properties.multi_processor_count)]
        document = SHIPPED / f"{'-'.join(words)}.v1.json"
        if document.exists():
            os.environ["LUTSMITH_TUNING"] = "replay"
            os.environ["LUTSMITH_TUNING_FILE"] = str(document)
            os.environ["LUTSMITH_TUNING_MISSING"] = "model"
            return f"kernels by {document.name}, and by the cost model where it has none"
    os.environ["LUTSMITH_TUNING"] = "off"
    return "kernels by the cost model, as no choices are shipped for this GPU"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def run_rank(index: int, ranks: int, arguments: argparse.Namespace, folder: Path) -> None:
    """In a process of its own."""
    warnings.filterwarnings("ignore")
    on_gpu = arguments.device == "cuda"
    device = torch.device("cuda", index) if on_gpu else torch.device("cpu")
    options: dict[str, object] = {}
    if on_gpu:
        torch.cuda.set_device(device)
        options["device_id"] = device
    store = distributed.FileStore(str(folder / f"meeting.{ranks}"), ranks)
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo", store=store, world_size=ranks, rank=index, timeout=PATIENCE, **options
    )
    with torch.no_grad():
        RankBench(Rank(index, ranks), arguments, device, folder).run()
    if on_gpu:
        torch.cuda.synchronize()
    store.set(f"done.{index}", "")
    store.wait([f"done.{rank}" for rank in range(ranks)])
    if on_gpu:
        # NCCL waits for graphs that hold its kernels before it gives its communicator back; there is nothing to give.
        os._exit(0)
    distributed.destroy_process_group()


class RankBench:
    def __init__(self, rank: Rank, arguments: argparse.Namespace, device: torch.device, folder: Path) -> None:
        self.rank, self.arguments, self.device, self.folder = rank, arguments, device, folder
        self.started = time.monotonic()
        # Another thread of the process looks after NCCL during a capture.
        self.timer = Timer(device, capture_mode="thread_local")
        self.shard = Shard(arguments.model, arguments.layers, rank, getattr(torch, arguments.dtype), device)

    def add(self, **row: object) -> None:
        row = {"tensor_parallel": self.rank.ranks, **row}
        if self.rank.index == 0:
            print(f"  {self.rank.ranks} GPUs, {time.monotonic() - self.started:.1f} s: {described(row)}", flush=True)
            with open(self.folder / f"rows.{self.rank.ranks}", "a") as file:
                file.write(json.dumps(row) + "\n")

    def of_all(self, value: float) -> list[float]:
        """Each rank's."""
        return self.rank.gather(torch.tensor([value], dtype=torch.float64, device=self.device))[:, 0].tolist()

    @property
    def out_of_time(self) -> bool:
        """Whether one of the ranks is, so that they agree."""
        return max(self.of_all(time.monotonic() - self.started)) > self.arguments.seconds

    def run(self) -> None:
        for weights in self.shard.all_weights(self.arguments.bits, self.arguments.group):
            self.prepare(weights)
            for what in self.measures(weights):
                if self.out_of_time:
                    return
                what()
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()

    def prepare(self, weights: ParallelWeights) -> None:
        if self.device.type != "cuda" or not weights.packed:
            return
        tokens = [*self.arguments.batch, *self.arguments.prefill, CHECKED_TOKENS]
        for turn in (True, False):  # the first rank compiles; the others find the kernels in the cache
            if (self.rank.index == 0) == turn:
                lutsmith.prepare(weights.packed, tokens=tokens, progress=False)
            distributed.barrier()

    def measures(self, weights: ParallelWeights) -> Iterator[Callable[[], None]]:
        yield lambda: self.logits(weights)
        for context in self.arguments.context:
            for batch in self.arguments.batch:
                yield lambda batch=batch, context=context: self.step(weights, batch, context)
        for count in self.arguments.prefill:
            yield lambda count=count: self.prefill(weights, count)

    def decoder(self, weights: ParallelWeights, batch: int, length: int) -> ParallelDecoder:
        compiles = self.device.type == "cuda" and not self.arguments.no_compile
        return ParallelDecoder(self.shard, weights, batch, length, compiles)

    def random_tokens(self, *shape: int) -> Tensor:
        """The same on all ranks."""
        generator = torch.Generator().manual_seed(2)
        return torch.randint(0, self.shard.model.config.vocab_size, shape, generator=generator).to(self.device)

    def logits(self, weights: ParallelWeights) -> None:
        """Compares them with those of one rank, where that was measured before."""
        decoder = self.decoder(weights, 1, CHECKED_TOKENS)
        mine = decoder.forward(self.random_tokens(1, CHECKED_TOKENS), 0)
        # Parts of the head may differ by a row.
        widest = int(max(self.of_all(mine.shape[1])))
        padded = torch.nn.functional.pad(mine, (0, widest - mine.shape[1]), value=float("nan"))
        every = self.rank.gather(padded).transpose(0, 1).flatten().cpu()
        every = every[~every.isnan()]
        if self.rank.index != 0:
            return
        of_one = self.folder / f"{weights.name}.logits"
        if self.rank.ranks == 1:
            torch.save(every, of_one)
        elif of_one.exists():
            difference = relative_difference(every, torch.load(of_one))
            self.add(weights=weights.name, difference_from_one=difference)
            if not difference <= ALLOWED_FROM_ONE[self.arguments.dtype]:
                raise RuntimeError(f"{weights.name}: the logits differ from those of one rank by {difference:.2%}")

    def step(self, weights: ParallelWeights, batch: int, context: int) -> None:
        decoder = self.decoder(weights, batch, context + 1)
        for keys, values in decoder.cache:
            keys.normal_()
            values.normal_()
        tokens = self.random_tokens(batch, 1)

        def step() -> Tensor:
            return decoder.decode(context)

        def rewind() -> None:
            decoder.tokens.copy_(tokens)

        rewind()
        self.timer.warm(step)
        rewind()
        expected = step().clone()
        chosen = decoder.tokens.clone()
        run = self.timer.captured(step, must_be=False)
        rewind()
        run.again()
        difference = compare(run.result, expected, f"{weights.name}, {self.rank.ranks} GPUs, batch {batch}")
        if not bool((self.rank.gather(decoder.tokens) == decoder.tokens).all()):
            raise RuntimeError(f"{weights.name}, batch {batch}: ranks chose different tokens")
        same_tokens = (decoder.tokens == chosen).double().mean().item()
        distributed.barrier()
        time_of_step = max(self.of_all(self.timer.per_run(run.again)))

        config = self.shard.model.config
        x = torch.randn(batch, 1, config.hidden_size, device=self.device).to(expected.dtype)
        attended = torch.randn(batch, 1, decoder.heads * decoder.dim, device=self.device).to(x.dtype)
        inner = torch.randn(batch, 1, self.shard.inner, device=self.device).to(x.dtype)
        q = attended.view(batch, decoder.heads, 1, decoder.dim)
        zeros = torch.zeros_like(x)
        parts = {}
        for part, call in {
            "linear": lambda: decoder.only_linear(x, attended, inner),
            "sums": lambda: decoder.only_sums(zeros),
            "attention": lambda: decoder.only_attention(q, context + 1),
        }.items():
            if part == "sums" and self.rank.ranks == 1:
                parts[part] = [0.0]  # there is nothing to capture
                continue
            self.timer.warm(call)
            again = self.timer.captured(call, must_be=False).again
            distributed.barrier()
            parts[part] = self.of_all(self.timer.per_run(again, rounds=1))
        self.add(
            weights=weights.name,
            step="lean",
            batch=batch,
            context=context,
            ms=time_of_step,
            tokens_per_s=batch / time_of_step * 1e3,
            **parts,
            weight_bytes=weights.bytes,
            difference=difference,
            same_tokens=same_tokens,
            **({} if run.eager is None else {"eager": run.eager}),
        )

    def prefill(self, weights: ParallelWeights, count: int) -> None:
        decoder = self.decoder(weights, 1, count)
        tokens = self.random_tokens(1, count)

        def run() -> Tensor:
            return decoder.forward(tokens, 0)

        self.timer.warm(run)
        captured = self.timer.captured(run, must_be=False)
        distributed.barrier()
        times = self.timer.each(captured.again, runs=1, rounds=self.arguments.prefill_runs)
        slowest = [max(self.of_all(time)) for time in times]
        eager = {} if captured.eager is None else {"eager": captured.eager}
        self.add(
            weights=weights.name, step="lean", prefill=count, **spread(slowest), weight_bytes=weights.bytes, **eager
        )


def table(figures: Figures) -> None:
    arguments = figures.arguments
    print(f"\n{arguments.model}, {arguments.layers or 'all'} layers, lean, {machine(figures.device)}\n")
    columns = ["work", "GPUs", "weights", "GB a GPU", "ms", "tokens/s", "of 16 bits", "of 16 bits on one"]
    columns += ["linear", "sums", "attention"]
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))

    def work(row: dict) -> tuple:
        return row.get("prefill", 0), row.get("context", 0), row.get("batch", 0)

    done = [row for row in figures.rows if "ms" in row]
    dense = {(work(row), row["tensor_parallel"]): row["ms"] for row in done if row["weights"] == "16 bits"}
    for row in sorted(done, key=lambda row: (work(row), row["tensor_parallel"])):
        prefill = row.get("prefill")
        cells = [f"prefill {prefill}" if prefill else f"batch {row['batch']}, context {row['context']}"]
        weights = row["weights"] + (" (eager)" if "eager" in row else "")
        cells += [str(row["tensor_parallel"]), weights, f"{row['weight_bytes'] / 1e9:.2f}", milliseconds(row)]
        cells.append(f"{(prefill or row['batch']) / row['ms'] * 1e3:.0f}")
        for ranks in (row["tensor_parallel"], 1):
            beside = dense.get((work(row), ranks))
            cells.append("" if beside is None else f"{beside / row['ms']:.2f}x")
        for part in ("linear", "sums", "attention"):
            cells.append(" ".join(f"{value:.3f}" for value in row.get(part, ())))
        print("| " + " | ".join(cells) + " |")
