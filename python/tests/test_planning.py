"""Plans of mixed bits and groups: the solver, what it is told, and models that are quantized as planned."""

from __future__ import annotations

import copy
import itertools
import json
import random
import shlex
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import torch

import lutsmith
from lutsmith.evaluation import evaluate, model_size
from lutsmith.planning import LayerSensitivity, Plan, Sensitivity, draw, make_plan, measure
from lutsmith.planning import command
from lutsmith.planning.choosing import Option, choose
from lutsmith.planning.plan import grid
from test_documentation import blocks
from test_learning import BATCHES, dequantized, tiny
from test_transformers import load, packed_layers

KINDS = {"self_attn.q_proj": (128, 256), "self_attn.k_proj": (64, 256), "mlp.down_proj": (256, 128)}
OPTIONS = [(bits, group) for bits in (2, 3, 4) for group in (32, 64)]


def items(seed: int, count: int, options: int) -> list[list[Option]]:
    generator = random.Random(seed)
    return [
        [Option(generator.randint(1, 40), generator.choice([0.0, 1.0, generator.random()])) for _ in range(options)]
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(40))
def test_choices_are_those_of_trying_all(seed):
    given = items(seed, 5, 4)
    sizes = [sum(option.size for option in each) for each in itertools.product(*given)]
    for budget in (min(sizes), min(sizes) + 7, sum(sizes) // len(sizes), max(sizes) + 5):
        best = min(
            sum(option.loss for option in each)
            for each in itertools.product(*given)
            if sum(option.size for option in each) <= budget
        )
        chosen = choose(given, budget)
        assert chosen.exact and chosen.size <= budget
        assert chosen.loss == pytest.approx(best, abs=1e-12)
        assert chosen.bound <= best + 1e-9
        picked = [options[pick] for options, pick in zip(given, chosen.picks)]
        assert (sum(each.size for each in picked), sum(each.loss for each in picked)) == (chosen.size, chosen.loss)


def test_many_items_end_close_to_the_bound():
    given = items(3, 250, 12)
    smallest = sum(min(option.size for option in each) for each in given)
    for budget in (smallest, smallest + 50, smallest + 2000):
        chosen = choose(given, budget)
        assert chosen.size <= budget and chosen.loss <= chosen.bound + 0.02


def test_a_known_choice_is_never_beaten_by_the_result():
    given = items(5, 30, 6)
    known = [0] * 30
    budget = sum(options[0].size for options in given)
    assert choose(given, budget, [known]).loss <= sum(options[0].loss for options in given)
    with pytest.raises(lutsmith.Error, match="size: 3 bytes are not allowed; allowed: at least"):
        choose(given, 3)


def sensitivity(blocks: int = 6, seed: int = 0) -> Sensitivity:
    generator = random.Random(seed)
    layers = {}
    for block in range(blocks):
        for kind, (n, k) in KINDS.items():
            errors = {(bits, group): 0.3 * 4.0**-bits * (1 + group / 200) for bits, group in OPTIONS}
            layers[f"model.layers.{block}.{kind}"] = LayerSensitivity(
                n, k, {(3, 64): generator.random() ** 3 * errors[3, 64]}, errors
            )
    return Sensitivity("nf", None, 100, layers)


@pytest.mark.parametrize("together", [True, False])
def test_sizes_are_kept_and_all_alike_is_never_better(together):
    found = sensitivity()
    uniform = make_plan(found, 16, together).uniform()
    assert len(uniform) == len(OPTIONS)
    for each in uniform:
        plan = make_plan(found, each.bits_per_weight, together)
        assert plan.bits_per_weight <= each.bits_per_weight + 1e-12
        assert plan.loss <= each.loss * (1 + 1e-12) and plan.bound <= plan.loss * (1 + 1e-12)
    for size in (3.0, 3.3, 3.77, 4.2):
        plan = make_plan(found, size, together)
        assert plan.bits_per_weight <= size
        fitting = [each.loss for each in uniform if each.bits_per_weight <= size]
        assert plan.loss < min(fitting)
        pairs = [[f"model.layers.{block}.self_attn.{which}_proj" for which in "qk"] for block in range(6)]
        assert all(plan.modules[q] == plan.modules[k] for q, k in pairs) or not together
    with pytest.raises(lutsmith.Error, match=r"size: 1 bits a weight are not allowed; allowed: at least 2\."):
        make_plan(found, 1)


def test_a_layer_that_matters_more_gets_more():
    found = sensitivity()
    names = list(found.layers)
    plan = make_plan(found, 3.4, together=False)
    ordered = sorted(
        names, key=lambda name: found.layers[name].loss(3, 64) / (found.layers[name].n * found.layers[name].k)
    )
    size = {
        name: 8 * found.layers[name].size(*plan.modules[name]) / (found.layers[name].n * found.layers[name].k)
        for name in names
    }
    third = len(names) // 3
    assert sum(size[name] for name in ordered[-third:]) > sum(size[name] for name in ordered[:third]) + third / 2


def test_sensitivities_are_what_a_model_loses():
    model = tiny()
    before = copy.deepcopy(model.state_dict())
    found = measure(model, BATCHES, bits=(2, 3), groups=(32, 64), probes="each")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert len(found.layers) == 14 and "lm_head" not in found.layers
    statistics = lutsmith.calibrate(model, BATCHES)
    name = "model.layers.1.self_attn.v_proj"
    layer = found.layers[name]
    packed = {
        option: lutsmith.quantize(model.get_submodule(name).weight.detach(), bits=option[0], group=option[1])
        for option in layer.errors
    }
    by_widths = measure(model, BATCHES, bits=(2, 3), groups=(32, 64), probes="widths").layers[name]
    assert by_widths.divergences == {option: layer.divergences[option] for option in ((2, 64), (3, 64))}
    expected = layer.divergences[3, 64] * layer.errors[3, 32] / layer.errors[3, 64]
    assert by_widths.loss(3, 32) == pytest.approx(expected) and by_widths.loss(3, 64) == layer.divergences[3, 64]
    alone = evaluate(dequantized(model, {name: packed[3, 32]}), torch.cat(BATCHES), model, window=11)
    assert layer.divergences[3, 32] == pytest.approx(alone.divergence.value, rel=1e-3)
    assert layer.loss(3, 32) == layer.divergences[3, 32] and len(layer.divergences) == 4
    weight, importance = model.get_submodule(name).weight.detach().double(), statistics[name].mean_square
    for option, each in packed.items():
        lost = ((weight - each.dequantize(torch.float32).double()).square() * importance).sum()
        assert layer.errors[option] == pytest.approx(float(lost / (weight.square() * importance).sum()), rel=1e-4)
        assert layer.size(*option) == each.nbytes + 2 * 2 ** option[0]


def test_measurements_go_on_from_their_file(tmp_path):
    model, file = tiny(), tmp_path / "layers.json"
    settings = {"bits": (2, 3), "groups": (32,)}

    class Stopped(Exception):
        pass

    def stop(name: str, index: int, count: int) -> None:
        if index == 5:
            raise Stopped

    with pytest.raises(Stopped):
        measure(model, BATCHES, **settings, file=file, progress=stop)
    kept = json.loads(file.read_text())
    assert len(kept["layers"]) == 5
    kept["layers"]["model.layers.0.self_attn.q_proj"]["divergences"]["2/32"] = (
        77.0  # to see that it is not measured again
    )
    file.write_text(json.dumps(kept))
    found = measure(model, BATCHES, **settings, file=file)
    assert found.layers["model.layers.0.self_attn.q_proj"].divergences[2, 32] == 77.0 and len(found.layers) == 14
    assert Sensitivity.of_document(json.loads(file.read_text())) == found
    with pytest.raises(lutsmith.Error, match="layers.json: of other layers, options or tokens"):
        measure(model, BATCHES, bits=(3,), groups=(32,), file=file)


def test_a_model_is_quantized_as_planned(tmp_path):
    model = tiny()
    model.half().save_pretrained(tmp_path / "model")
    found = measure(model.float(), BATCHES, bits=(2, 3, 4), groups=(32, 64))
    plan = make_plan(found, 3.7)
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    packed = load(tmp_path / "model", plan.config())
    for name, layer in packed_layers(packed).items():
        (weight,) = layer.packed_weights()
        assert (weight.bits, weight.group) == plan.modules[name]
    assert len({plan.modules[name] for name in plan.modules}) > 1
    assert model_size(packed).bits_per_weight == pytest.approx(plan.bits_per_weight) and plan.bits_per_weight <= 3.7

    document = json.loads((tmp_path / "plan.json").read_text())
    name = "model.layers.0.mlp.down_proj"
    document["modules"][name] = {"bits": 4, "group": 32}
    (tmp_path / "plan.json").write_text(json.dumps(document))
    edited = Plan.load(tmp_path / "plan.json")
    assert edited.modules[name] == (4, 32) and edited.config().settings_of(name) == {"bits": 4, "group": 32}
    for wrong, message in (({"bits": 1, "group": 32}, "1/32 was not measured; allowed: 2/32"), (None, "not in both")):
        if wrong is None:
            del document["modules"][name]
        else:
            document["modules"][name] = wrong
        (tmp_path / "plan.json").write_text(json.dumps(document))
        with pytest.raises(lutsmith.Error, match=message):
            Plan.load(tmp_path / "plan.json")


def test_tables_and_pictures_show_every_layer():
    plan = make_plan(sensitivity(), 3.5)
    table = plan.markdown()
    (line,) = [line for line in table.splitlines() if line.startswith("| 4 |")]
    wanted = [plan.modules[name] for name in plan.modules if ".4." in name]
    assert line == "| 4 | " + " | ".join(f"{bits}/{group}" for bits, group in wanted) + " |"
    picture = ElementTree.fromstring(draw(plan))
    titles = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert [title.split(":")[0] for title in titles] == [f"model.layers.{b}.{kind}" for b in range(6) for kind in KINDS]
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}circle"))) == len(OPTIONS) + 1


def test_the_command_plans_saves_and_quantizes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny().half().save_pretrained("model")
    (tmp_path / "text.json").write_text(json.dumps(torch.cat(BATCHES).flatten().tolist()))
    shared = ["model", "--text", "text.json", "--window", "16", "--sensitivity", "layers.json", "--bits", "2,3"]
    files = ["-o", "plan.json", "--svg", "plan.svg", "--packed", "packed"]
    assert command.main([*shared, "--size", "3.4", *files]) == 0
    said = capsys.readouterr()
    assert "no plan of 3.4 bits is below" in said.out and "14/14" in said.err
    packed = load("packed")
    plan = Plan.load("plan.json")
    assert {
        name: (each.packed_weights()[0].bits, each.packed_weights()[0].group)
        for name, each in packed_layers(packed).items()
    } == plan.modules
    assert ElementTree.parse("plan.svg").getroot().tag.endswith("svg")
    assert command.main([*shared, "--size", "3.1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bits_per_weight"] <= 3.1
    for arguments, words in (
        ([*shared, "--size", "1"], "size: 1 bits a weight are not allowed"),
        ([*shared, "--size", "3", "--group", "big"], "--group: 'big' is not allowed"),
        (
            ["model", "--size", "3", "--text", "text.json", "--window", "999"],
            "--window: 999 is not allowed; allowed: at most 72",
        ),
        (["absent", "--size", "3", "--text", "text.json", "--window", "16"], "absent: cannot be loaded"),
    ):
        assert command.main(arguments) == 1
        assert words in capsys.readouterr().err


def test_it_is_a_verb_of_the_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "lutsmith", "plan", "--help"], capture_output=True, text=True, check=True
    )
    assert "usage: lutsmith plan" in done.stdout


def test_commands_of_help_and_documentation_are_understood():
    lines = [*command._EPILOG.splitlines()[1:], *"".join(blocks("sh", "quantizers.md")).splitlines()]
    assert len(lines) == 3
    for line in lines:
        program, verb, *arguments = shlex.split(line)
        assert (program, verb) == ("lutsmith", "plan") and command._parser().parse_args(arguments).model == "model"


def test_all_layers_alike_fit_into_their_own_size():
    """Whatever the shapes: bytes become bits a weight and bytes again, in floating point."""
    errors = {(bits, group): 4.0**-bits for bits, group in OPTIONS}
    for n in range(40, 120, 8):
        layers = {f"{index}.up": LayerSensitivity(n, 8 * index + 40, dict(errors), errors) for index in range(5)}
        found = Sensitivity("nf", None, 1, layers)
        for each in make_plan(found, 99).uniform():
            assert make_plan(found, each.bits_per_weight).loss <= each.loss * (1 + 1e-12)


def test_blocks_of_two_stacks_are_rows_of_their_own():
    names = [f"{stack}.layers.{block}.up" for stack in ("encoder", "decoder") for block in range(2)]
    rows, columns = grid([*names, "head"])
    assert columns == ["up", "head"] and [list(row.values()) for row in rows.values()] == [
        [name] for name in [*names, "head"]
    ]
    assert list(grid(names[:2])[0]) == ["0", "1"]
