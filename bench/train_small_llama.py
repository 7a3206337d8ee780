"""Trains a small model of Llama's shape from scratch, on text that is there, for bench/quality.py.

    python bench/train_small_llama.py small --size 100m --device cuda --seconds 180 --seed 1
    python bench/quality.py small --rows small.jsonl --device cuda --text held_out=small/held_out.txt \\
        novel=python/examples/alice.txt --calibration small/calibration.txt

The text is by default the source of Python's own library. The last part of each file is not trained on: half of these
are for measuring (held_out.txt), half for calibrating (calibration.txt). The tokenizer is a byte-level BPE that is
trained on the text too. So nothing is downloaded, and weights are no quantized model's: they are those that training left, in 16 bits.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SUFFIXES = (".py", ".md", ".txt", ".rst")
SIZES = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    "10m": {"hidden_size": 320, "intermediate_size": 896, "num_hidden_layers": 8, "num_attention_heads": 5},
    "30m": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 10, "num_attention_heads": 8},
    "100m": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 14, "num_attention_heads": 12},
}
HELD_OUT = 0.05  # of each file
WARM_UP = 0.05  # of the training
END_OF_TEXT = "<|end|>"
TOKENIZER_BYTES = 16 << 20  # that the tokenizer is trained on


@dataclass(frozen=True)
class Summary:
    """What was trained. Losses in nats a token; held_out is of text that was not trained on."""

    parameters: int
    vocabulary: int
    training_tokens: int
    seen_tokens: int
    steps: int
    seconds: float
    loss: float
    held_out_loss: float
    seed: int
    device: str


def read_texts(paths: Sequence[Path], most: int) -> list[str]:
    """Of files and of folders' files, in the order of their names, until there are `most` characters."""
    texts: list[str] = []
    total = 0
    for path in paths:
        files = sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES) if path.is_dir() else [path]
        for file in files:
            if total >= most:
                return texts
            try:
                text = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                if path.is_dir():
                    continue  # such as tests of wrong encodings
                raise
            texts.append(text[: most - total])
            total += len(texts[-1])
    return texts


def parts_of(texts: Sequence[str]) -> tuple[list[str], str, str]:
    """What is trained on; what is measured; what is calibrated on. The last two alternate over texts' last parts."""
    training, apart = [], []
    for text in texts:
        cut = text.rfind("\n", 0, len(text) - round(HELD_OUT * len(text))) + 1
        training.append(text[:cut])
        apart.append(text[cut:])
    return training, "".join(apart[::2]), "".join(apart[1::2])


def make_tokenizer(texts: Sequence[str], vocabulary: int) -> transformers.PreTrainedTokenizerFast:
    """Byte-level BPE. A vocabulary of 257 is one of bytes."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocabulary <= len(alphabet):
        raise SystemExit(f"train_small_llama.py: --vocabulary {vocabulary}: allowed: at least {len(alphabet) + 1}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_beginning(texts), trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT)


def _beginning(texts: Sequence[str]) -> Iterator[str]:
    """Of each text as much as lets all of them have a part."""
    part = TOKENIZER_BYTES / max(sum(map(len, texts)), 1)
    for text in texts:
        yield text[: math.ceil(part * len(text))]


def numbers_of(tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """All texts' token numbers, one behind the other, each followed by the end of a text."""
    end = tokenizer.eos_token_id
    encoded = tokenizer.backend_tokenizer.encode_batch(list(texts))
    return torch.tensor([number for each in encoded for number in (*each.ids, end)], dtype=torch.int32)


def train(
    model: Any, tokens: torch.Tensor, given: argparse.Namespace, generator: torch.Generator
) -> tuple[int, float, float]:
    """Steps until the limit of steps or of time; the mean loss of the last ones; seconds."""
    decayed = [each for each in model.parameters() if each.dim() > 1]
    others = [each for each in model.parameters() if each.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=given.learning_rate, betas=(0.9, 0.95))
    start = time.monotonic()
    loss = math.nan
    step = 0
    while step < given.steps and (part := _part(step, given, time.monotonic() - start)) < 1:
        # Up at first, then down on a cosine to a tenth: Loshchilov and Hutter, SGDR, 2016.
        warm = min(1.0, part / WARM_UP) if step > 0 else 0.01
        rate = warm * (0.55 + 0.45 * math.cos(math.pi * part))
        for group in adam.param_groups:
            group["lr"] = given.learning_rate * rate
        found = _loss(model, _windows(tokens, given.batch, given.length, generator).to(given.device))
        adam.zero_grad(set_to_none=True)
        found.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        step += 1
        if step % given.every == 0 or step == 1:  # a value waits for the GPU
            now = float(found.detach())
            loss = now if math.isnan(loss) else 0.7 * loss + 0.3 * now
            seconds = time.monotonic() - start
            rate = step * given.batch * given.length / seconds
            said = f"\rstep {step}, loss {loss:.3f}, {rate:,.0f} tokens a second, {seconds:.0f} s\033[K"
            print(said, end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return step, loss, time.monotonic() - start


def _part(step: int, given: argparse.Namespace, seconds: float) -> float:
    """Of the training that is behind."""
    return max(step / given.steps, seconds / given.seconds if given.seconds else 0.0)


def _windows(tokens: torch.Tensor, batch: int, length: int, generator: torch.Generator) -> torch.Tensor:
    """[batch, length + 1], from anywhere."""
    starts = torch.randint(len(tokens) - length, (batch,), generator=generator)
    return torch.stack([tokens[start : start + length + 1] for start in starts]).long()


def _loss(model: Any, windows: torch.Tensor) -> torch.Tensor:
    with _sixteen_bits(windows.device):
        logits = model(windows[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())


def _sixteen_bits(device: torch.device) -> Any:
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()


@torch.no_grad()
def held_out_loss(model: Any, tokens: torch.Tensor, given: argparse.Namespace) -> float:
    """Over up to 64 windows, evenly spaced; NaN where there is not one."""
    most = len(tokens) // (given.length + 1)
    if most == 0:
        return math.nan
    starts = [index * (len(tokens) - given.length - 1) // max(min(most, 64) - 1, 1) for index in range(min(most, 64))]
    windows = torch.stack([tokens[start : start + given.length + 1] for start in starts]).long().to(given.device)
    return sum(float(_loss(model, each[None])) for each in windows) / len(windows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "output", type=Path, help="folder for the model, its tokenizer, held_out.txt and calibration.txt"
    )
    library = Path(sysconfig.get_paths()["stdlib"])
    parser.add_argument(
        "--text", nargs="+", type=Path, default=[library], help="files, or folders of *.py, md, txt, rst"
    )
    parser.add_argument("--most", type=int, default=64_000_000, help="characters of text; default: 64 million")
    parser.add_argument("--size", choices=SIZES, default="10m", help="parameters without the embedding; default: 10m")
    parser.add_argument("--vocabulary", type=int, default=8192, help="of the tokenizer; 257: bytes; default: 8192")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1_000_000, help="at most")
    parser.add_argument("--seconds", type=float, help="at most, of training: the rate falls towards this end")
    parser.add_argument("--batch", type=int, default=32, help="windows of a step")
    parser.add_argument("--length", type=int, default=512, help="tokens of a window")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=10, help="steps between progress lines")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", action="store_true", help="print figures for programs")
    given = parser.parse_args(arguments)
    if given.seconds is None and given.steps == parser.get_default("steps"):
        parser.error("give --seconds or --steps")
    training, measured, calibration = parts_of(read_texts(given.text, given.most))
    tokenizer = make_tokenizer(training, given.vocabulary)
    tokens = numbers_of(tokenizer, training)
    if len(tokens) <= given.length + 1:
        raise SystemExit(f"train_small_llama.py: {len(tokens)} tokens: allowed: more than --length {given.length}")
    torch.manual_seed(given.seed)
    torch.backends.cuda.matmul.allow_tf32 = True
    heads = SIZES[given.size]["num_attention_heads"]
    config = transformers.LlamaConfig(
        **SIZES[given.size],
        num_key_value_heads=heads if heads % 4 else heads // 4,
        vocab_size=len(tokenizer),
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = transformers.LlamaForCausalLM(config).to(given.device)
    steps, loss, seconds = train(model, tokens, given, torch.Generator().manual_seed(given.seed))
    model.eval()
    summary = Summary(
        parameters=sum(each.numel() for each in model.parameters()),
        vocabulary=len(tokenizer),
        training_tokens=len(tokens),
        seen_tokens=steps * given.batch * given.length,
        steps=steps,
        seconds=seconds,
        loss=loss,
        held_out_loss=held_out_loss(model, numbers_of(tokenizer, [measured]), given),
        seed=given.seed,
        device=torch.cuda.get_device_name() if given.device.startswith("cuda") else given.device,
    )
    given.output.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(given.output)
    tokenizer.save_pretrained(given.output)
    (given.output / "held_out.txt").write_text(measured, encoding="utf-8")
    (given.output / "calibration.txt").write_text(calibration, encoding="utf-8")
    (given.output / "training.json").write_text(json.dumps(asdict(summary), indent=1) + "\n")
    if given.json:
        print(json.dumps(asdict(summary)))
    else:
        print(
            f"{summary.parameters / 1e6:.1f} million parameters, {summary.steps} steps, {summary.seen_tokens:,} tokens in "
            f"{summary.seconds:.0f} s: loss {summary.loss:.3f}, on held-out text {summary.held_out_loss:.3f}"
        )


if __name__ == "__main__":
    main()
