"""`lutsmith evaluate`: models that are saved in folders, compared on files."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from lutsmith.evaluation import evaluate, model_size
from lutsmith.evaluation.command import _EPILOG, _parser, main
from lutsmith.transformers import LutsmithConfig
from test_documentation import blocks
from test_evaluation import VOCABULARY, llama

WORDS = [f"w{index}" for index in range(VOCABULARY)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, the same in 4 and in 2 bits, a text and its token numbers."""
    folder = tmp_path_factory.mktemp("evaluation")
    llama(hidden_size=64).half().save_pretrained(folder / "model")
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder / "model")
    for bits in (4, 2):
        config = LutsmithConfig(bits=bits, group=32)
        packed = AutoModelForCausalLM.from_pretrained(folder / "model", quantization_config=config)
        packed.save_pretrained(folder / f"packed{bits}")
    numbers = torch.randint(VOCABULARY, (100,), generator=torch.Generator().manual_seed(4))
    (folder / "text.txt").write_text(" ".join(WORDS[number] for number in numbers))
    (folder / "other.json").write_text(json.dumps(numbers.flip(0).tolist()))
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)


MODELS = ["four=packed4", "packed2", "--reference", "16 bits=model"]


def test_figures_are_those_of_evaluate(folder, capsys):
    assert main([*MODELS, "--text", "text.txt", "other.json", "--window", "16", "--stride", "8", "--json"]) == 0
    documents = json.loads(capsys.readouterr().out)
    assert [document["text"] for document in documents] == ["text.txt", "other.json"]
    numbers = torch.tensor(json.loads((folder / "other.json").read_text()))
    original = AutoModelForCausalLM.from_pretrained("model")
    for document, tokens in zip(documents, (numbers.flip(0), numbers)):
        assert document["scored"] == 99
        models = {model["name"]: model for model in document["models"]}
        assert list(models) == ["16 bits", "four", "packed2"]
        for name, source in (("16 bits", "model"), ("four", "packed4"), ("packed2", "packed2")):
            model = AutoModelForCausalLM.from_pretrained(source)
            found = evaluate(model, tokens, original, window=16, stride=8)
            assert models[name]["bits_per_weight"] == model_size(model).bits_per_weight
            for key in ("perplexity", "ratio", "divergence", "same_choice"):
                assert list(models[name][key].values()) == pytest.approx(list(getattr(found, key)), rel=1e-9)
        assert 0 == models["16 bits"]["divergence"]["value"] < models["four"]["divergence"]["value"]
        assert models["four"]["divergence"]["value"] < models["packed2"]["divergence"]["value"]


def test_tables_pictures_and_logits_are_written(folder, tmp_path, capsys):
    files = ["--svg", str(tmp_path / "loss.svg"), "--logits", str(tmp_path / "logits")]
    assert main([*MODELS, "--text", "other.json", "--window", "16", "--tokens", "50", *files]) == 0
    printed = capsys.readouterr()
    assert "other.json: 49 tokens in 4 windows of 16" in printed.out and "| four * |" in printed.out
    assert "packed2: other.json: perplexity" in printed.err
    assert ElementTree.parse(tmp_path / "loss.svg").getroot().tag.endswith("svg")
    assert len(list((tmp_path / "logits" / "0").glob("*.pt"))) == 4


def test_without_a_reference_perplexity_is_all(capsys):
    assert main(["packed4", "--text", "other.json", "--window", "16"]) == 0
    printed = capsys.readouterr().out
    assert "| perplexity |\n" in printed and "| packed4 * |" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model", "--text", "other.json"], ["100 are not allowed", "at least 513", "window=99"]),
        (["model", "--text", "absent.json"], ["absent.json: cannot be read"]),
        (["packed4", "--text", "text.txt"], ["--tokenizer"]),
        ([".", "--text", "other.json", "--window", "16"], [".: cannot be loaded", "save_pretrained"]),
        (["model", "other/model", "--text", "other.json"], ["model is given twice", "first=model"]),
        (["model", "--text", "other.json", "--tokens", "0"], ["--tokens: 0", "at least 1"]),
    ],
)
def test_what_fails_says_what_to_do(capsys, arguments, words):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("lutsmith evaluate: ")
    for word in words:
        assert word in error


def test_it_is_a_verb_of_the_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "lutsmith", "evaluate", "--help"], capture_output=True, text=True, check=True
    )
    assert "usage: lutsmith evaluate" in done.stdout


def test_commands_of_help_and_documentation_are_understood():
    lines = [*_EPILOG.splitlines()[1:], *"".join(blocks("sh", "evaluation.md")).splitlines()]
    assert len(lines) == 3
    for line in lines:
        program, verb, *arguments = shlex.split(line)
        assert (program, verb) == ("lutsmith", "evaluate") and _parser().parse_args(arguments).reference == "model"
