"""Learned scales: their gradients, what is kept of a descent, and what becomes of it."""

from __future__ import annotations

import copy

import pytest
import torch

import lutsmith
from lutsmith.learning.layer import RescaledLinear, product
from lutsmith.transformers import linear_layers
from test_transformers import load, logits, packed_layers, random_model, same_bytes

SETTINGS = {"bits": 2, "group": 32, "learning_rate": 0.01}
GENERATOR = torch.Generator().manual_seed(11)
BATCHES = [torch.randint(112, (2, 12), generator=GENERATOR) for _ in range(3)]
OTHERS = [torch.randint(112, (2, 12), generator=GENERATOR) for _ in range(2)]


def tiny(**sizes):
    return random_model("llama", torch.float32, **sizes)


def loss_of(model, batches) -> float:
    """Of the next token, in plain torch and float64."""
    total = count = 0
    for tokens in batches:
        with torch.no_grad():
            chances = model(tokens).logits.double()[:, :-1].log_softmax(-1)
        total -= float(chances.gather(-1, tokens[:, 1:, None]).sum())
        count += tokens[:, 1:].numel()
    return total / count


def dequantized(model, packed):
    model = copy.deepcopy(model)
    for name, each in packed.items():
        model.get_submodule(name).weight.data = each.dequantize(torch.float32)
    return model


# 40 columns: the second group of a row is not full.
@pytest.mark.parametrize("group", [16, 40])
def test_gradients_are_those_of_finite_differences(group):
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(6, 40, generator=generator, dtype=torch.float64)
    x = torch.randn(2, 5, 40, generator=generator, dtype=torch.float64, requires_grad=True)
    scales = torch.rand(6, -(-40 // group), generator=generator, dtype=torch.float64).add(1).requires_grad_()
    values = torch.linspace(-1, 1, 8, dtype=torch.float64).pow(3).requires_grad_()
    inputs = (x, scales, values)
    assert torch.autograd.gradcheck(lambda *each: product(*each, weight, group), inputs, eps=1e-7, atol=1e-6)


def test_scales_follow_the_loss_of_the_whole_model():
    """The derivative of a loss by scales deep in a model, against differences of losses in float64."""
    torch.manual_seed(2)
    # Of torch's own modules: norms of transformers compute in float32.
    linear = [torch.nn.Linear(40, 48), torch.nn.Linear(48, 40), torch.nn.Linear(40, 20, bias=False)]
    layers = []
    for each in linear:
        packed = lutsmith.quantize(each.weight.detach(), bits=3, group=32)
        layer = RescaledLinear(each.double(), packed, learn_table=True).double()
        layer.first_scales, layer.first_values = layer.first_scales.double(), layer.first_values.double()
        layer.stored = torch.float64  # else a difference as small as is needed would be rounded away
        layers.append(layer)
    model = torch.nn.Sequential(torch.nn.Embedding(20, 40).double(), layers[0], torch.nn.Tanh(), *layers[1:])
    tokens = torch.randint(20, (3, 9))

    def loss() -> torch.Tensor:
        chances = model(tokens[:, :-1]).log_softmax(-1)
        return -chances.gather(-1, tokens[:, 1:, None]).mean()

    loss().backward()
    step = 1e-6
    for layer in layers:
        for parameter, places in ((layer.ratios, ((0, 0), (17, 1))), (layer.moves, ((0,), (5,)))):
            for place in places:
                around = []
                for sign in (1, -1):
                    with torch.no_grad():
                        parameter[place] += sign * step
                        around.append(loss().item())
                        parameter[place] -= sign * step
                expected = (around[0] - around[1]) / (2 * step)
                assert float(parameter.grad[place]) == pytest.approx(expected, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("method", "learn_table"), [("nf", False), ("int", True)])
def test_learned_scales_lose_less_on_what_they_learned_from(method, learn_table):
    model = tiny()
    before = copy.deepcopy(model)
    learned = lutsmith.learn_scales(model, BATCHES, method=method, epochs=5, learn_table=learn_table, **SETTINGS)
    assert same_bytes(model, before) and type(model.model.layers[0].mlp.up_proj) is torch.nn.Linear
    assert all(parameter.requires_grad for parameter in model.parameters())
    start = {
        name: lutsmith.quantize(model.get_submodule(name).weight.detach(), method=method, bits=2, group=32)
        for name in learned.packed
    }
    assert len(start) == 14 and not learned.held_out
    # What the checks say is what a model of the packed weights loses.
    assert learned.checks[0].loss == pytest.approx(loss_of(dequantized(model, start), BATCHES), rel=1e-4)
    found = loss_of(dequantized(model, learned.packed), BATCHES)
    assert learned.best.loss == pytest.approx(found, rel=1e-4)
    assert learned.best.loss == min(check.loss for check in learned.checks) < learned.checks[0].loss - 0.01
    tables = {each.table for each in learned.packed.values()}
    assert (len(tables) == 1) != learn_table


def test_a_descent_that_leads_up_ends_where_it_began():
    model = tiny()
    learned = lutsmith.learn_scales(model, BATCHES, **{**SETTINGS, "learning_rate": 0.9}, epochs=2)
    assert learned.best.steps == 0 and learned.best.loss < learned.checks[-1].loss
    for name, packed in learned.packed.items():
        expected = lutsmith.quantize(model.get_submodule(name).weight.detach(), bits=2, group=32)
        assert packed.format == expected.format and torch.equal(packed.scales(), expected.scales())
        assert (packed.dequantize() - expected.dequantize()).abs().max() <= 1e-3  # ties may go the other way


def test_held_out_tokens_choose_the_check():
    said = []
    arguments = {"held_out": OTHERS, "epochs": 3, "check_every": 2, "progress": said.append}
    learned = lutsmith.learn_scales(tiny(), BATCHES, **arguments, **SETTINGS)
    assert learned.held_out and [check.steps for check in learned.checks] == [0, 2, 4, 6, 8, 9]
    assert learned.best.loss == min(check.loss for check in learned.checks)
    found = loss_of(dequantized(tiny(), learned.packed), OTHERS)
    assert learned.best.loss == pytest.approx(found, rel=1e-4)
    assert [step.check for step in said if step.check is not None] == learned.checks[1:]
    assert learned.checks[1].training == pytest.approx((said[0].loss + said[1].loss) / 2)


def test_divergence_holds_to_the_model_as_it_was_given():
    model = tiny()
    learned = lutsmith.learn_scales(model, BATCHES, objective="divergence", epochs=4, **SETTINGS)

    def divergence(packed) -> float:
        return lutsmith.evaluate(dequantized(model, packed), torch.cat(BATCHES), model, window=11).divergence.value

    start = {
        name: lutsmith.quantize(model.get_submodule(name).weight.detach(), bits=2, group=32) for name in learned.packed
    }
    assert learned.checks[0].loss == pytest.approx(divergence(start), rel=1e-3)
    assert learned.best.loss == pytest.approx(divergence(learned.packed), rel=1e-3)
    assert learned.best.loss < 0.99 * learned.checks[0].loss


def test_padding_is_not_learned_from():
    mask = torch.ones_like(BATCHES[0])
    mask[:, 7:] = 0
    padded = {"input_ids": BATCHES[0].masked_fill(mask == 0, 5), "attention_mask": mask}
    model = tiny()
    one = lutsmith.learn_scales(model, padded, **SETTINGS)
    other = lutsmith.learn_scales(model, BATCHES[0][:, :7], **SETTINGS)
    assert one.checks[0].loss == pytest.approx(other.checks[0].loss, rel=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_blocks_that_are_run_twice_give_the_same_scales(name):
    kept, again = (
        lutsmith.learn_scales(random_model(name, torch.float32), BATCHES, recompute=recompute, **SETTINGS)
        for recompute in (False, True)
    )
    assert [check.loss for check in kept.checks] == [check.loss for check in again.checks]
    assert all(torch.equal(kept.packed[name].data, again.packed[name].data) for name in kept.packed)


class _Stopped(Exception):
    pass


def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path):
    arguments = {**SETTINGS, "epochs": 3, "held_out": OTHERS, "check_every": 2, "learn_table": True}
    whole = lutsmith.learn_scales(tiny(), BATCHES, **arguments)
    steps: list[int] = []

    def stop(step) -> None:
        steps.append(step.done)
        if step.done == 5:
            raise _Stopped

    file = tmp_path / "run.pt"
    model = tiny()
    with pytest.raises(_Stopped):
        lutsmith.learn_scales(model, BATCHES, **arguments, resume=file, progress=stop)
    assert type(model.model.layers[0].mlp.up_proj) is torch.nn.Linear and model.lm_head.weight.requires_grad
    resumed = lutsmith.learn_scales(model, BATCHES, **arguments, resume=file, progress=stop_later(steps))
    assert steps == [1, 2, 3, 4, 5, 5, 6, 7, 8, 9]  # what was behind the last check is done again
    assert resumed.checks[1:] == whole.checks[1:] and resumed.checks[0].loss == whole.checks[0].loss
    assert all(torch.equal(whole.packed[name].data, resumed.packed[name].data) for name in whole.packed)
    with pytest.raises(lutsmith.Error, match=r"run\.pt: is of a run with another model"):
        lutsmith.learn_scales(model, OTHERS, **arguments, resume=file)
    file.write_bytes(b"no run")
    with pytest.raises(lutsmith.Error, match="cannot be read"):
        lutsmith.learn_scales(model, BATCHES, **arguments, resume=file)


def stop_later(steps: list[int]):
    return lambda step: steps.append(step.done)


def test_what_others_packed_is_a_start(tmp_path):
    model = tiny()
    statistics = lutsmith.calibrate(model, BATCHES)
    start = {}
    for index, (name, layer) in enumerate(linear_layers(model).items()):
        importance = statistics[name].mean_square
        settings = {"bits": 2 + index % 2, "group": (32, 64)[index % 2], "importance": importance}
        start[name] = lutsmith.quantize(layer.weight.detach(), method="kmeans", **settings)
    del start["lm_head"]
    learned = lutsmith.learn_scales(model, BATCHES, start=start, learning_rate=0.01, epochs=4)
    assert learned.best.loss < learned.checks[0].loss
    for name, packed in learned.packed.items():
        assert (packed.bits, packed.group) == (start[name].bits, start[name].group)
        assert packed.table == tuple(sorted(start[name].table))
    assert learned.put_into(model) is model
    model.save_pretrained(tmp_path / "packed")
    again = load(tmp_path / "packed")
    assert again.config.quantization_config.method == "nfl"
    assert len(packed_layers(again)) == 14 and torch.equal(logits(again), logits(model))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objective": "beauty"}, "objective: 'beauty' is not known; allowed: tokens, divergence"),
        ({"epochs": 0}, "epochs: 0 is not allowed; allowed: at least 1"),
        ({"learning_rate": 0.0}, "learning_rate: 0.0 is not allowed"),
        ({"held_out": []}, "held_out: none"),
        ({"held_out": torch.zeros(3, 1, dtype=torch.long)}, r"held_out: \[3, 1\] is not allowed"),
        ({"bits": 9}, "bits"),
        ({"start": {"other": None}}, "layers: 'other' is no torch.nn.Linear"),
    ],
    ids=str,
)
def test_what_cannot_be_learned_is_refused(wrong, message):
    with pytest.raises(lutsmith.Error, match=message):
        lutsmith.learn_scales(tiny(), BATCHES, **wrong)


def test_a_loss_that_is_no_number_is_an_error():
    model = tiny()
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    with pytest.raises(lutsmith.Error, match="loss: nan at the start"):
        lutsmith.learn_scales(model, BATCHES, **SETTINGS)
