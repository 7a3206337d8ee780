"""Layers of one input in one launch, without a model around them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import lutsmith
from lutsmith.nn import FusedLinear, Linear, fuse, set_batch_invariant
from lutsmith.nn.fused import FusedMember
from reference import Products

K = 96
SIZES = [64, 32, 40]


def exact_layers(bias=(True, False, True), group=32, sizes=SIZES) -> list[Linear]:
    """Of whole numbers, so that every sum is exact, and the order of summing changes nothing."""
    torch.manual_seed(3)
    layers = []
    for n, has_bias in zip(sizes, bias):
        linear = torch.nn.Linear(K, n, bias=has_bias).half()
        with torch.no_grad():
            linear.weight.copy_(torch.randint(-7, 8, (n, K)))
            linear.weight[:, :: 32 if group == 32 else K] = -8  # scales are 1
            if has_bias:
                linear.bias.copy_(torch.randint(-9, 10, (n,)))
        layers.append(Linear.from_linear(linear, method="int", group=group))
    return layers


def whole_x(*shape: int) -> torch.Tensor:
    return torch.randint(-2, 3, (*shape, K), generator=torch.Generator().manual_seed(4)).half()


class Attention(torch.nn.Module):
    """Calls its members as those of transformers do."""

    def __init__(self, layers) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = layers

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.q_proj(x) * 2, self.k_proj(x), self.v_proj(x) + 1


# By whose name fuse knows it.
LlamaAttention = type("LlamaAttention", (Attention,), {})


def fused_attention(**given) -> tuple[torch.nn.Module, list[Linear]]:
    model = LlamaAttention(exact_layers(**given))
    before = copy.deepcopy([model.q_proj, model.k_proj, model.v_proj])
    assert fuse(model) == (1, {})
    return model, before


def all_equal(ys, others) -> bool:
    return len(ys) == len(others) and all(torch.equal(y, other) for y, other in zip(ys, others))


@pytest.mark.parametrize("group", [32, "channel"])
@pytest.mark.parametrize("bias", [(True, False, True), (False,) * 3, (True,) * 3], ids=["some", "none", "all"])
def test_fused_layer_gives_the_members_results_by_one_launch(group, bias):
    layers = exact_layers(bias, group)
    fused = FusedLinear(layers)
    assert fused.apart is None and "sizes=[64, 32, 40], fused" in repr(fused)
    for shape in ((), (1,), (2, 5)):
        x = whole_x(*shape)
        with Products() as products:
            ys = fused(x)
        assert len(products.batch_invariant) == 1
        assert all_equal(ys, [layer(x) for layer in layers])
    # Each of the members can be called, too.
    assert all_equal([member(x) for member in fused.members], [layer(x) for layer in layers])


@pytest.mark.parametrize("group", [32, "channel"])
def test_fused_layer_is_saved_by_its_members_as_if_it_was_not(group):
    layers = exact_layers(group=group)
    fused, apart = FusedLinear(layers), torch.nn.ModuleDict({"members": torch.nn.ModuleList(layers)})
    state, expected = fused.state_dict(), apart.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)

    zeros = copy.deepcopy(fused)
    for member in zeros.members:
        member.weight.zero_()
    zeros.members[0].fused.weight.zero_()
    zeros.members[0].fused.bias.zero_()
    zeros.load_state_dict(expected)
    assert all_equal(zeros(whole_x(3)), fused(whole_x(3)))
    assert all_equal(pickle.loads(pickle.dumps(fused))(whole_x(3)), fused(whole_x(3)))


def test_state_that_does_not_fit_a_fused_layer_is_refused():
    fused = FusedLinear(exact_layers())
    state = fused.state_dict()
    del state["members.1.weight"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"members.1.weight"'):
        fused.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"members.1.bias"'):
        fused.load_state_dict({**fused.state_dict(), "members.1.bias": torch.zeros(32)})
    with pytest.raises(RuntimeError, match=r"members.0.weight: shape \(7,\) is not allowed; allowed: \(4608,\)"):
        fused.load_state_dict({**fused.state_dict(), "members.0.weight": torch.zeros(7, dtype=torch.uint8)})
    nf = Linear.from_linear(torch.nn.Linear(K, 64).half(), group=32)
    with pytest.raises(lutsmith.Error, match="format: .* load the weights before layers are fused"):
        fused.load_state_dict({**fused.state_dict(), "members.0._extra_state": nf.get_extra_state()})
    assert fused.members[0].format == exact_layers()[0].format


def apart_by(change) -> list[Linear]:
    layers = exact_layers()
    change(layers)
    return layers


def replace(**settings):
    def change(layers):
        layers[1] = Linear.from_linear(torch.nn.Linear(K, 32).half(), **{"method": "int", "group": 32, **settings})

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (replace(bits=3), "bits 4 and 3"),
        (replace(group=64), "group 32 and 64"),
        (replace(method="nf"), "different tables, and 64 rows of one that is not the last are no multiple of 128"),
        (replace(dtype=torch.bfloat16), "dtype torch.float16 and torch.bfloat16"),
        (lambda layers: setattr(layers[2], "batch_invariant", True), "batch_invariant False and True"),
        (lambda layers: layers.reverse(), "40 rows of a member that is not the last"),
        (lambda layers: layers[0].register_forward_hook(lambda *given: None), "there are hooks on a member"),
        (lambda layers: setattr(layers[1], "_hf_hook", 1), "there are hooks on a member"),
        (lambda layers: [layer.to("meta") for layer in layers], "weights are not loaded"),
        (lambda layers: layers.__delitem__(slice(1, None)), "there is one member"),
    ],
    ids=["bits", "group", "table", "dtype", "batch_invariant", "rows", "hook", "accelerate", "meta", "one"],
)
def test_members_that_cannot_be_fused_take_a_launch_each_and_say_why(change, reason):
    layers = apart_by(change)
    fused = FusedLinear(layers)
    assert fused.apart.startswith(reason)
    assert f"not fused: {reason}" in repr(fused)
    assert list(fused.members) == layers
    if reason not in ("weights are not loaded", "dtype torch.float16 and torch.bfloat16"):
        with Products() as products:
            ys = fused(whole_x(2))
        assert len(products.batch_invariant) == len(layers)
        assert all_equal(ys, [layer(whole_x(2)) for layer in layers])


@pytest.mark.parametrize("batch_invariant", [False, True])
def test_members_bring_tables_of_their_own_to_one_launch(batch_invariant):
    layers = exact_layers(sizes=[128, 256, 40])
    layers[1] = Linear.from_linear(torch.nn.Linear(K, 256).half(), method="nf", group=32)
    for layer in layers:
        layer.batch_invariant = batch_invariant
    fused = FusedLinear(layers)
    assert fused.apart is None
    assert lutsmith.manifest(fused)[0]["segment_rows"] == 128
    x = whole_x(3)
    with Products() as products:
        ys = fused(x)
    assert len(products.batch_invariant) == 1
    for index, (y, layer) in enumerate(zip(ys, layers)):
        assert torch.allclose(y, layer(x), rtol=1e-3) and (index == 1 or torch.equal(y, layer(x)))
    state, expected = fused.state_dict(), torch.nn.ModuleDict({"members": torch.nn.ModuleList(layers)}).state_dict()
    assert state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in expected)
    fused.load_state_dict(expected)


def test_gate_and_up_with_tables_of_their_own_take_one_launch_ungated():
    layers = exact_layers(bias=(False, False), sizes=[128, 128])
    layers[1] = Linear.from_linear(torch.nn.Linear(K, 128, bias=False).half(), method="nf", group=32)

    class LlamaMLP(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_proj, self.up_proj = copy.deepcopy(layers)
            self.act_fn = torch.nn.SiLU()

        def forward(self, x):
            return self.act_fn(self.gate_proj(x)) * self.up_proj(x)

    model, x = LlamaMLP(), whole_x(2)
    assert fuse(model) == (1, {})
    with Products() as products:
        y = model(x)
    assert len(products.batch_invariant) == 1
    assert torch.allclose(y, torch.nn.functional.silu(layers[0](x)) * layers[1](x), rtol=2e-3)


def test_layers_that_are_none_are_refused():
    with pytest.raises(lutsmith.Error, match="layers: Identity is not allowed; allowed: lutsmith.nn.Linear"):
        FusedLinear([torch.nn.Identity()])
    with pytest.raises(lutsmith.Error, match="layers: none given"):
        FusedLinear([])
    with pytest.raises(lutsmith.Error, match="layers: 96, 64 in_features are not allowed; allowed: layers of one input"):
        FusedLinear([exact_layers()[0], Linear.from_linear(torch.nn.Linear(64, 32).half())])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_members_in_place_of_layers_take_one_launch_for_one_input(mode):
    model, before = fused_attention()
    with mode():
        for tokens in (1, 4, 4):
            x = whole_x(tokens)
            with Products() as products:
                ys = model(x)
            assert len(products.batch_invariant) == 1
            assert all_equal(ys, Attention(before)(x))
            assert model.q_proj.fused.last.product is None  # nothing is kept


def test_members_with_another_input_compute_its_result():
    model, (q, k, v) = fused_attention()
    x, other = whole_x(3), whole_x(3) + 1
    assert torch.equal(model.q_proj(x), q(x))
    assert torch.equal(model.k_proj(other), k(other))
    assert torch.equal(model.v_proj(x), v(x))
    # In any order, and as often as one likes.
    for name, layer in (("v_proj", v), ("v_proj", v), ("k_proj", k), ("q_proj", q), ("q_proj", q)):
        assert torch.equal(getattr(model, name)(x), layer(x))


def test_input_that_was_written_to_is_multiplied_anew():
    model, (q, k, _) = fused_attention()
    x = whole_x(3)
    model.q_proj(x)
    x += 1
    assert torch.equal(model.k_proj(x), k(x))


def test_results_of_weights_that_were_replaced_are_forgotten():
    model, _ = fused_attention()
    x = whole_x(3)
    model.q_proj(x)
    state = model.state_dict()
    state["k_proj.weight"] = torch.zeros_like(state["k_proj.weight"])
    model.load_state_dict(state)
    (k,) = model.k_proj.packed_weights()
    assert torch.equal(model.k_proj(x), lutsmith.matmul(x, k))


def test_compiled_it_is_one_graph_with_one_launch():
    model, before = fused_attention()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for tokens in (1, 3, 3):
        x = whole_x(tokens)
        with torch.no_grad():
            assert all_equal(compiled(x), Attention(before)(x))
        assert model.q_proj.fused.last.product is None
    for graph in graphs:
        assert sum("lutsmith.matmul" in str(node.target) for node in graph.graph.nodes) == 1
    exported = torch.export.export(model, (whole_x(3),)).module()
    assert all_equal(exported(whole_x(3)), Attention(before)(whole_x(3)))
    assert model.q_proj.fused.last.product is None


def test_kernels_are_made_for_the_launch_and_not_for_its_members():
    model, _ = fused_attention()
    assert [kernel["n"] for kernel in lutsmith.manifest(model)] == [sum(SIZES)]
    assert [kernel["n"] for kernel in lutsmith.manifest(FusedLinear(exact_layers()))] == [sum(SIZES)]
    apart = FusedLinear(list(reversed(exact_layers())))
    assert [kernel["n"] for kernel in lutsmith.manifest(apart)] == [40, 32, 64]


def test_one_switch_makes_the_launch_batch_invariant():
    model, _ = fused_attention()
    set_batch_invariant(model)
    with Products() as products:
        model(whole_x(2))
    assert products.batch_invariant == [True]
    assert [kernel["batch_invariant"] for kernel in lutsmith.manifest(model)] == [True]
    assert model.k_proj.batch_invariant and "batch_invariant=True" in repr(model.k_proj)


def test_weights_are_in_memory_once_and_move_with_the_model():
    layers = exact_layers()
    packed = sum(layer.weight.nbytes for layer in layers)
    model = LlamaAttention(layers)
    fuse(model)
    assert sum(buffer.nbytes for name, buffer in model.named_buffers() if name.endswith("weight")) == packed
    assert repr(model).count("FusedWeight") == 1
    whole = model.q_proj.fused.weight
    assert model.k_proj.weight.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
    assert model.to("meta").v_proj.weight.is_meta


def test_copies_are_models_of_their_own():
    model, before = fused_attention()
    other = copy.deepcopy(model)
    other.q_proj.fused.weight.zero_()
    x = whole_x(2)
    assert all_equal(model(x), Attention(before)(x))
    assert not torch.equal(other(x)[1], model(x)[1])
    assert all_equal(pickle.loads(pickle.dumps(model))(x), model(x))


def test_fusing_again_changes_nothing_and_leaves_what_cannot_be():
    model, _ = fused_attention()
    member = model.q_proj
    assert fuse(model) == (0, {}) and model.q_proj is member
    apart = torch.nn.ModuleDict({"a": LlamaAttention(exact_layers()[::-1]), "b": LlamaAttention(exact_layers())})
    apart["c"] = LlamaAttention([exact_layers()[0], torch.nn.Linear(K, 32), exact_layers()[2]])
    done = fuse(apart)
    assert done.launches == 1 and isinstance(apart["b"].q_proj, FusedMember)
    assert done.apart["a.q_proj"].startswith("40 rows of a member")
    assert done.apart["c.q_proj"] == "a Linear of torch.nn.modules.linear is no lutsmith.nn.Linear"
    assert type(apart["a"].q_proj) is Linear and type(apart["c"].q_proj) is Linear


def test_model_without_modules_that_are_known_is_refused():
    for model in (Attention(exact_layers()), LlamaAttention([torch.nn.Linear(K, 32) for _ in SIZES])):
        with pytest.raises(lutsmith.Error, match="has no packed layers in a module that is known.*FusedLinear is for"):
            fuse(model)


def test_members_give_torchs_layers_back():
    model, before = fused_attention()
    for member, layer in zip((model.q_proj, model.k_proj, model.v_proj), before):
        assert torch.equal(member.to_linear().weight, layer.to_linear().weight)
        assert (member.bias is None) == (layer.bias is None)
        assert layer.bias is None or torch.equal(member.to_linear().bias, layer.bias)
