"""Perplexity, divergence and their intervals, beside a second computation of each."""

from __future__ import annotations

import math
import random

import numpy
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import lutsmith
from lutsmith.evaluation import Comparison, Entry, Estimate, Reference, draw, evaluate, model_size, read_text
from lutsmith.evaluation.bootstrap import interval
from lutsmith.nn import Linear, fuse

VOCABULARY = 53


def llama(seed: int = 0, **sizes) -> LlamaForCausalLM:
    """With logits of some size: fresh models give all tokens nearly the same."""
    torch.manual_seed(seed)
    usual = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(**{**usual, "vocab_size": VOCABULARY, "max_position_embeddings": 256, **sizes})
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    return model


@pytest.fixture(scope="module")
def original():
    return llama()


@pytest.fixture(scope="module")
def changed(original):
    model = llama()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
    return model


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(VOCABULARY, (203,), generator=torch.Generator().manual_seed(2))


def log_probabilities(model, inputs: torch.Tensor) -> numpy.ndarray:
    with torch.no_grad():
        logits = model(inputs[None]).logits[0].double().numpy()
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - numpy.log(numpy.exp(shifted).sum(-1, keepdims=True))


def by_numpy(model, reference, tokens: torch.Tensor, window: int, stride: int) -> list[dict[str, float]]:
    """Token by token: each is scored in the first window that has it behind its inputs."""
    length = len(tokens)
    begins = [*range(0, length - 1 - window, stride), length - 1 - window]
    scored: set[int] = set()
    found = []
    for begin in begins:
        inputs = tokens[begin : begin + window]
        given, expected = log_probabilities(model, inputs), log_probabilities(reference, inputs)
        sums = {"count": 0, "loss": 0.0, "reference": 0.0, "divergence": 0.0, "same": 0}
        for position in range(window):
            target = begin + position + 1
            if target in scored:
                continue
            scored.add(target)
            sums["count"] += 1
            sums["loss"] -= given[position, tokens[target]]
            sums["reference"] -= expected[position, tokens[target]]
            sums["divergence"] += numpy.sum(numpy.exp(expected[position]) * (expected[position] - given[position]))
            sums["same"] += given[position].argmax() == expected[position].argmax()
        found.append(sums)
    assert scored == set(range(1, length))
    return found


@pytest.mark.parametrize(("window", "stride"), [(32, None), (32, 8), (30, 7), (202, None)])
def test_each_token_counts_once_as_numpy_says(original, changed, tokens, window, stride):
    found = evaluate(changed, tokens, original, window=window, stride=stride)
    expected = by_numpy(changed, original, tokens, window, stride or window)
    columns = numpy.array([list(sums.values()) for sums in expected])
    numpy.testing.assert_allclose(found.sums.numpy(), columns, rtol=1e-5, atol=1e-5)
    count, loss, reference, divergence, same = columns.sum(0)
    assert found.tokens == count == len(tokens) - 1
    assert found.context == window - (stride or window) + 1
    assert found.perplexity.value == pytest.approx(math.exp(loss / count), rel=1e-5)
    assert found.reference_perplexity.value == pytest.approx(math.exp(reference / count), rel=1e-5)
    assert found.ratio.value == pytest.approx(math.exp((loss - reference) / count), rel=1e-5)
    assert found.divergence.value == pytest.approx(divergence / count, rel=1e-4)
    assert found.same_choice.value == same / count
    assert 0 < found.divergence.value and 0 < found.same_choice.value < 1  # else nothing was compared


@pytest.mark.parametrize(("window", "stride"), [(1, None), (17, 17), (32, 1), (64, 63), (202, 5)])
def test_windows_do_not_change_how_many_tokens_are_scored(original, tokens, window, stride):
    found = evaluate(original, tokens[:203], window=window, stride=stride, batch=16)
    assert found.tokens == int(found.sums[:, 0].sum()) == 202
    assert (found.sums[:, 0] > 0).all()


def test_texts_are_read_apart(original, tokens):
    texts = [tokens[:70], tokens[70:]]
    together = evaluate(original, texts, window=32)
    apart = [evaluate(original, text, window=32) for text in texts]
    assert torch.equal(together.sums, torch.cat([each.sums for each in apart]))
    stacked = torch.stack([tokens[:70], tokens[70:140]])
    assert evaluate(original, stacked, window=32).tokens == 2 * 69


def test_batches_give_the_same(original, changed, tokens):
    alone = evaluate(changed, tokens, original, window=32, stride=16)
    torch.testing.assert_close(evaluate(changed, tokens, original, window=32, stride=16, batch=5).sums, alone.sums)


def test_a_model_does_not_differ_from_itself(original, tokens):
    found = evaluate(original, tokens, original, window=32)
    assert found.divergence == (0, 0, 0)
    assert found.ratio == (1, 1, 1)
    assert found.same_choice == (1, 1, 1)
    assert found.ratio_to(found) == (1, 1, 1)
    assert found.perplexity.low < found.perplexity.value < found.perplexity.high


def test_a_token_that_the_reference_rules_out_adds_nothing(tokens):
    class Says(torch.nn.Module):
        def __init__(self, *logits: float) -> None:
            super().__init__()
            self.row = torch.nn.Parameter(torch.tensor(logits, dtype=torch.float32))

        def forward(self, inputs):
            return self.row.expand(*inputs.shape, -1)

    impossible = -math.inf
    found = evaluate(Says(0, 0, 0), tokens % 2, Says(0, 0, impossible), window=32)
    assert found.divergence.value == pytest.approx(math.log(3 / 2))
    assert found.perplexity.value == pytest.approx(3)


@pytest.mark.parametrize("kept", ["memory", "folder"])
def test_kept_logits_are_the_model(original, changed, tokens, tmp_path, kept):
    half = llama().half()  # which is what is kept, as it is
    folder = None if kept == "memory" else tmp_path / "logits"
    made = Reference.record(half, tokens, window=32, stride=20, folder=folder)
    if folder is not None:
        made = Reference.open(folder)
    expected = evaluate(changed, tokens, half, window=32, stride=20)
    assert torch.equal(evaluate(changed, tokens, made, window=32, stride=20).sums, expected.sums)
    itself = evaluate(made, tokens, made, window=32, stride=20)
    assert itself.perplexity == expected.reference_perplexity and itself.divergence == (0, 0, 0)
    with pytest.raises(lutsmith.Error, match="other windows .window 32, here 16.*record it again"):
        evaluate(changed, tokens, made, window=16, stride=16)
    with pytest.raises(lutsmith.Error, match="other windows .tokens_sha256"):
        evaluate(changed, tokens.flip(0), made, window=32, stride=20)


def test_folders_are_neither_overwritten_nor_taken_for_whole(original, tokens, tmp_path):
    Reference.record(original, tokens, window=32, folder=tmp_path)
    with pytest.raises(lutsmith.Error, match="holds a reference already"):
        Reference.record(original, tokens, window=32, folder=tmp_path)
    (tmp_path / "window-000003.pt").unlink()
    with pytest.raises(lutsmith.Error, match="window-000003.pt: cannot be read"):
        evaluate(original, tokens, Reference.open(tmp_path), window=32)
    (tmp_path / "reference.json").unlink()
    with pytest.raises(lutsmith.Error, match="no whole reference"):
        Reference.open(tmp_path)


def test_the_model_is_left_as_it_was(original, tokens):
    model = llama().train()
    evaluate(model, tokens, window=32)
    assert model.training and all(parameter.grad is None for parameter in model.parameters())


# ---- Intervals ----


def test_intervals_are_those_of_resampled_windows(original, changed, tokens):
    found = evaluate(changed, tokens, original, window=16, stride=16)
    sums = found.sums.numpy()
    draw_one = random.Random(5)
    perplexities, ratios, divergences = [], [], []
    for _ in range(4000):
        drawn = sums[[draw_one.randrange(len(sums)) for _ in sums]].sum(0)
        perplexities.append(math.exp(drawn[1] / drawn[0]))
        ratios.append(math.exp((drawn[1] - drawn[2]) / drawn[0]))
        divergences.append(drawn[3] / drawn[0])
    for estimate, values in ((found.perplexity, perplexities), (found.ratio, ratios), (found.divergence, divergences)):
        low, high = numpy.quantile(values, [0.025, 0.975])
        width = high - low
        assert estimate.low == pytest.approx(low, abs=0.12 * width)
        assert estimate.high == pytest.approx(high, abs=0.12 * width)
        assert estimate.low < estimate.value < estimate.high


def test_pairs_are_surer_than_their_members(original, tokens):
    slightly = llama()
    with torch.no_grad():
        slightly.lm_head.weight.mul_(1.01)
    found = evaluate(slightly, tokens, original, window=16)
    alone = found.perplexity
    assert found.ratio.high - found.ratio.low < 0.2 * (alone.high - alone.low) / alone.value
    other = evaluate(original, tokens, window=16)
    assert found.ratio_to(other) == pytest.approx(found.ratio)
    with pytest.raises(lutsmith.Error, match="other windows"):
        found.ratio_to(evaluate(original, tokens, window=17))


def test_intervals_are_the_same_each_time_and_hold_the_mean_as_often_as_said():
    generator = torch.Generator().manual_seed(3)
    held = 0
    for _ in range(100):
        sums = torch.stack([torch.ones(60), torch.randn(60, generator=generator)], 1).double()
        state = torch.random.get_rng_state()
        estimate = interval(sums, lambda sums: sums[..., 1] / sums[..., 0])
        assert torch.equal(torch.random.get_rng_state(), state)
        held += estimate.low <= 0 <= estimate.high
    assert estimate == interval(sums, lambda sums: sums[..., 1] / sums[..., 0])
    assert 87 <= held <= 100  # 95 expected, with a standard deviation of 2.2


def test_one_window_has_no_interval(original, tokens):
    found = evaluate(original, tokens[:33], window=32)
    assert math.isnan(found.perplexity.low) and math.isnan(found.perplexity.high)


# ---- Bits ----


def test_bits_are_those_of_packed_bytes_and_tables():
    model = llama().half()
    plain = model_size(model)
    assert plain.bits_per_weight == plain.model_bits_per_weight == 16
    assert plain.linear_weights == 4 * 32 * 32 + 3 * 32 * 64
    assert plain.weights == sum(parameter.numel() for parameter in model.parameters())
    blocks = [(name, module) for name, module in model.model.layers.named_modules() if type(module) is torch.nn.Linear]
    for name, module in blocks:
        model.model.layers.set_submodule(name, Linear.from_linear(module, bits=3, group=32))
    packed = model_size(model)
    assert packed.linear_weights == plain.linear_weights and packed.weights == plain.weights
    scales, table = 16 / 32, 8 * 16
    at_least = 3 + scales + table * len(blocks) / plain.linear_weights
    assert at_least <= packed.bits_per_weight
    expected = sum(module.weight.nbytes + 2 * 8 for module in model.modules() if isinstance(module, Linear))
    assert packed.linear_bytes == expected
    assert packed.bytes == plain.bytes - plain.linear_bytes + packed.linear_bytes


def test_fused_layers_and_shared_embeddings_are_counted_once():
    model = llama(tie_word_embeddings=True, attention_bias=True, hidden_size=64).half()
    plain = model_size(model)
    for name, module in list(model.model.layers.named_modules()):
        if type(module) is torch.nn.Linear:
            model.model.layers.set_submodule(name, Linear.from_linear(module))
    apart = model_size(model)
    assert apart.weights == plain.weights
    assert fuse(model).launches == 2
    assert model_size(model) == apart


def test_a_model_without_layers_is_refused():
    with pytest.raises(lutsmith.Error, match="Embedding has no linear layer"):
        model_size(torch.nn.Embedding(3, 4))


# ---- Refusals ----


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tokens": torch.arange(20)}, ["20 are not allowed", "at least 33", "window=19"]),
        ({"tokens": torch.arange(32)}, ["32 are not allowed", "at least 33", "window=31"]),
        ({"tokens": [torch.arange(40), torch.arange(8)]}, ["8 of text 2 of 2", "window=7"]),
        ({"tokens": []}, ["no text, so no window", "at least one"]),
        ({"tokens": torch.zeros(0, 40, dtype=torch.long)}, ["no text, so no window"]),
        ({"tokens": torch.rand(40)}, ["torch.float32 [40]", "whole numbers"]),
        ({"tokens": "a text"}, ["str", "read_text"]),
        ({"tokens": torch.arange(14, 54)}, ["53", "0 to 52", "tokenizer"]),
        ({"tokens": torch.arange(-1, 39)}, ["-1", "0 to 52"]),
        ({"window": 0}, ["window: 0", "at least 1"]),
        ({"window": 129}, ["at least 130"]),
        ({"window": 257, "tokens": torch.zeros(300, dtype=torch.long)}, ["257", "at most 256", "positions"]),
        ({"stride": 33}, ["stride: 33", "1 to the window's 32"]),
        ({"stride": 0}, ["stride: 0", "1 to"]),
        ({"batch": 0}, ["batch: 0", "at least 1"]),
        ({"reference": llama(vocab_size=60)}, ["vocabulary of 60", "allowed: 53"]),
        ({"reference": llama(vocab_size=40)}, ["40", "0 to 39", "reference model"]),
    ],
)
def test_what_is_not_allowed_is_refused_with_what_is(original, arguments, words):
    usual = {"tokens": torch.arange(41), "window": 32}
    with pytest.raises(lutsmith.Error) as refused:
        evaluate(original, **{**usual, **arguments})
    for word in words:
        assert word in str(refused.value)


def test_logits_that_are_no_numbers_are_refused(tokens):
    model = llama()
    with torch.no_grad():
        model.lm_head.weight[3] = math.nan
    with pytest.raises(lutsmith.Error, match="window 1 of 7 .*NaN.*bfloat16"):
        evaluate(model, tokens, window=32)


def test_what_gives_no_logits_is_refused(tokens):
    model = torch.nn.Sequential(torch.nn.Embedding(VOCABULARY, 4), torch.nn.Flatten())
    with pytest.raises(lutsmith.Error, match=r"logits \[1, 128\]; allowed: \[1, 32, vocabulary\]"):
        evaluate(model, tokens, window=32)


# ---- Tables and pictures ----


@pytest.fixture(scope="module")
def comparison(original, changed, tokens):
    reference = Reference.record(original, tokens, window=32)
    worse = llama(seed=9)
    found = [evaluate(model, tokens, reference, window=32) for model in (reference, changed, worse)]
    entries = [Entry("16 bits", found[0], 16.0, 16.0), Entry("a<b", found[1], 4.25, 9.5), Entry("worse", found[2], 4.5)]
    return Comparison("a text", entries)


def test_front_has_what_nothing_beats(comparison):
    assert comparison.front() == {"16 bits", "a<b"}
    alike = Comparison("", [Entry(name, comparison.entries[1].evaluation, 4.0) for name in ("one", "two")])
    assert alike.front() == {"one", "two"}
    _, better, worse = (entry.evaluation for entry in comparison.entries)
    assert Comparison("", [Entry("better", better, 4.0), Entry("worse", worse, 4.0)]).front() == {"better"}
    assert Comparison("", [Entry("more bits", better, 4.5), Entry("fewer", better, 4.0)]).front() == {"fewer"}


def test_table_and_document_say_the_same(comparison):
    lines = comparison.markdown().splitlines()
    assert "a text: 202 tokens in 7 windows of 32, stride 32" in lines[0]
    assert len(lines) == 7 and len({line.count("|") for line in lines[2:]}) == 1
    document = comparison.document()
    assert (document["scored"], document["windows"], document["context"]) == (202, 7, 1)
    for line, model, entry in zip(lines[4:], document["models"], comparison.entries):
        assert line.startswith(f"| {entry.name}{' *' if model['front'] else ''} | {entry.bits_per_weight:.3f} |")
        for name, digits in (("perplexity", 2), ("ratio", 3), ("divergence", 4)):
            value, low, high = (model[name][key] for key in ("value", "low", "high"))
            assert Estimate(value, low, high) == getattr(entry.evaluation, name)
            assert f"{value:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})" in line
    assert "| 1.000 (1.000–1.000) | 0.0000 (0.0000–0.0000) | 100.0 (100.0–100.0) % |" in lines[4]


def test_numbers_that_are_none_are_none_in_json(original, tokens):
    found = evaluate(original, tokens[:33], window=32)
    comparison = Comparison("", [Entry("m", found, 16.0)])
    (model,) = comparison.document()["models"]
    assert comparison.markdown().splitlines()[2] == "| model | bits a weight | perplexity |"
    assert model["perplexity"]["low"] is None and "divergence" not in model


def test_models_that_cannot_be_compared_are_refused(original, tokens):
    alone, compared = evaluate(original, tokens, window=32), evaluate(original, tokens, original, window=32)
    with pytest.raises(lutsmith.Error, match="no model"):
        Comparison("", [])
    with pytest.raises(lutsmith.Error, match="some have none"):
        Comparison("", [Entry("a", alone, 4), Entry("b", compared, 4)])
    with pytest.raises(lutsmith.Error, match="other windows"):
        Comparison("", [Entry("a", alone, 4), Entry("b", evaluate(original, tokens, window=31), 4)])


def test_picture_marks_the_front(comparison):
    from xml.etree import ElementTree

    root = ElementTree.fromstring(draw([comparison, comparison]))
    space = "{http://www.w3.org/2000/svg}"
    panels = root.findall(f"{space}g")
    assert len(panels) == 2
    circles = panels[0].findall(f"{space}circle")
    # The reference differs from itself by nothing, which has no place on a logarithmic scale.
    assert [circle.get("fill") == "#fff" for circle in circles] == [False, True]
    (better, worse) = circles
    assert float(better.get("cx")) < float(worse.get("cx")) and float(better.get("cy")) > float(worse.get("cy"))
    assert {"a<b", "worse"} <= {text.text for text in panels[0].findall(f"{space}text")}
    assert len([text for text in panels[0].findall(f"{space}text") if text.get("text-anchor") == "end"]) >= 3


# ---- Files ----


def test_files_of_text_and_of_tokens_are_read(tmp_path):
    numbers = [5, 6, 7]
    (tmp_path / "a.json").write_text(str(numbers))
    torch.save(torch.tensor([numbers, numbers]), tmp_path / "a.pt")
    (tmp_path / "a.txt").write_text("äb", encoding="utf-8")
    assert read_text(tmp_path / "a.json").tolist() == numbers
    assert read_text(tmp_path / "a.pt").tolist() == [numbers, numbers]
    assert read_text(tmp_path / "a.txt", lambda text: {"input_ids": list(text.encode())}).tolist() == [195, 164, 98]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"text", ["tokenizer"]),
        ("absent.json", None, ["cannot be read"]),
        ("a.json", b"{", ["cannot be read", "*.json or *.pt"]),
        ("a.json", b"[1.5, 2]", ["no token numbers"]),
        ("a.json", b"[[1, 2], [3]]", ["cannot be read"]),
        ("a.pt", b"nothing", ["cannot be read"]),
    ],
)
def test_files_that_are_none_are_refused(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(lutsmith.Error) as refused:
        read_text(tmp_path / name)
    for word in [str(tmp_path / name), *words]:
        assert word in str(refused.value)
