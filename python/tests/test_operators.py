"""lutsmith.matmul and the operators behind it, on the CPU."""

from __future__ import annotations

import pytest
import torch

import lutsmith
from lutsmith import tensor_parallel
from reference import Products, assert_right, product, random_weight


def random_x(*shape: int, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("leading", [(), (1,), (5,), (2, 3), (0,), (2, 1, 4)])
def test_product_is_right_for_any_leading_dimensions(dtype, leading):
    packed = lutsmith.quantize(random_weight(100, 136, dtype), bits=3, group=32)
    x = random_x(*leading, 136, dtype=dtype)
    y = lutsmith.matmul(x, packed)
    assert y.dtype == dtype and y.shape == (*leading, 100)
    if y.numel():
        assert_right(y, product(x, packed))


def test_matrix_of_many_pieces_is_multiplied_whole():
    packed = lutsmith.quantize(random_weight(3000, 2056))
    x = random_x(3, 2056)
    assert_right(lutsmith.matmul(x, packed), product(x, packed))


def test_strides_of_x_and_out_are_honoured():
    packed = lutsmith.quantize(random_weight(64, 128))
    x = random_x(6, 256)
    for view in (x[:, :128], x[::2, 64:192], random_x(128, 6).t(), x[:1, :128].expand(6, 128)):
        assert torch.equal(lutsmith.matmul(view, packed), lutsmith.matmul(view.contiguous(), packed))
    out = torch.full((6, 200), 7.0, dtype=torch.float16)
    y = lutsmith.matmul(x[:, :128], packed, out=out[:, 100:164])
    assert torch.equal(y, lutsmith.matmul(x[:, :128], packed))
    assert y.data_ptr() == out[:, 100:164].data_ptr()
    assert (out[:, :100] == 7).all() and (out[:, 164:] == 7).all()


def test_bias_is_added():
    packed = lutsmith.quantize(random_weight(64, 128))
    x = random_x(2, 128)
    bias = random_x(64)
    assert_right(lutsmith.matmul(x, packed, bias), product(x, packed) + bias.double())


def test_members_of_a_fused_layer_bring_tables_of_their_own():
    query = lutsmith.quantize(random_weight(96, 128, seed=1), bits=4, group=64)
    key = lutsmith.quantize(random_weight(32, 128, seed=2), bits=3, group=32)
    value = lutsmith.quantize(random_weight(32, 128, seed=3), bits=2, table=[-1, -0.2, 0.3, 1])
    x = random_x(4, 128)
    products = lutsmith.matmul(x, [query, key, value])
    for y, packed in zip(products, [query, key, value]):
        assert torch.equal(y, lutsmith.matmul(x, packed))
    out = torch.empty(4, 160, dtype=torch.float16)
    lutsmith.matmul(x, [query, key, value], out=out.split([96, 32, 32], dim=-1))
    assert torch.equal(out, torch.cat(products, dim=-1))
    with pytest.raises(lutsmith.Error, match="bias: 1 given for 3"):
        lutsmith.matmul(x, [query, key, value], bias=[None])


def test_arguments_that_do_not_fit_are_refused_with_what_to_do():
    packed = lutsmith.quantize(random_weight(64, 128))
    x = random_x(2, 128)
    for arguments, words in [
        ((x.bfloat16(), packed), ["torch.bfloat16", "dtype=torch.bfloat16"]),
        ((x.float(), packed), ["torch.float32", ".to()"]),
        ((x[:, :64], packed), ["(2, 64)", "[..., 128]"]),
        ((x[0, 0], packed), ["()", "[..., 128]"]),
        ((x, packed, x[0, :64].float()), ["bias: torch.float32"]),
        ((x, packed, x[0, :63]), ["bias:", "(63,)", "(64,)"]),
        ((x, packed.to("meta")), ["meta", "cpu", "move"]),
        ((x, packed, None, torch.empty(2, 63, dtype=torch.float16)), ["out:", "(2, 63)", "(2, 64)"]),
    ]:
        with pytest.raises(lutsmith.Error) as refused:
            lutsmith.matmul(*arguments)
        for word in words:
            assert word in str(refused.value)
    with pytest.raises(lutsmith.Error, match="bytes given"):
        torch.ops.lutsmith.matmul(x, packed.data[1:], packed.format)
    with pytest.raises(lutsmith.Error, match="other version|another version"):
        torch.ops.lutsmith.matmul(x, packed.data, "something")


def test_weights_that_are_not_packed_are_refused_with_what_to_do():
    weight, x = random_weight(64, 128), torch.zeros(1, 128, dtype=torch.float16)
    for wrong in (weight, [weight], [lutsmith.quantize(weight), weight]):
        with pytest.raises(lutsmith.Error, match="packed: Tensor is not allowed; allowed: what lutsmith.quantize makes"):
            lutsmith.matmul(x, wrong)


def test_operators_keep_torchs_rules():
    packed = lutsmith.quantize(random_weight(64, 128))
    x = random_x(2, 128)
    tests = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(
        torch.ops.lutsmith.matmul.default, (x, packed.data, packed.format, x[0, :64].clone()), test_utils=tests
    )
    torch.library.opcheck(
        torch.ops.lutsmith.matmul_out.default,
        (x, packed.data, packed.format, None, torch.empty(2, 64, dtype=torch.float16)),
        test_utils=tests,
    )
    torch.library.opcheck(
        torch.ops.lutsmith.matmul.default, (x, packed.data, packed.format, None, True), test_utils=tests
    )


def test_batch_invariant_changes_nothing_on_the_cpu():
    packed = lutsmith.quantize(random_weight(64, 128))
    x, bias = random_x(3, 128), random_x(64)
    expected = lutsmith.matmul(x, packed, bias)
    assert torch.equal(lutsmith.matmul(x, packed, bias, batch_invariant=True), expected)
    out = torch.empty_like(expected)
    assert lutsmith.matmul(x, packed, bias, out, batch_invariant=True) is out and torch.equal(out, expected)
    assert torch.equal(torch.ops.lutsmith.matmul(x, packed.data, packed.format, bias, batch_invariant=True), expected)


def test_batch_invariant_reaches_every_product():
    packed = lutsmith.quantize(random_weight(64, 128))
    x, out = random_x(3, 128), torch.empty(3, 64, dtype=torch.float16)
    with Products() as products:
        lutsmith.matmul(x, packed, batch_invariant=True)
        lutsmith.matmul(x, packed, out=out, batch_invariant=True)
        lutsmith.matmul(x, [packed, packed], out=[out, torch.empty_like(out)], batch_invariant=True)
        tensor_parallel.columns(packed, 0, 64).matmul(x[:, :64], batch_invariant=True)
    assert products.batch_invariant == [True] * 5
    with Products() as products:
        lutsmith.matmul(x, packed)
        lutsmith.matmul(x, [packed, packed], out=[out, torch.empty_like(out)])
        tensor_parallel.columns(packed, 0, 64).matmul(x[:, :64])
    assert products.batch_invariant == [False] * 4


class Layer(torch.nn.Module):
    def __init__(self, packed: lutsmith.PackedWeight) -> None:
        super().__init__()
        self.register_buffer("weight", packed.data)
        self.format = packed.format

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.ops.lutsmith.matmul(x, self.weight, self.format, None))


@pytest.fixture
def layer() -> Layer:
    return Layer(lutsmith.quantize(random_weight(64, 128)))


def test_compiled_layer_is_whole_and_serves_any_number_of_tokens(layer):
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for tokens in (1, 2, 7, 30):
        x = random_x(tokens, 128)
        assert torch.equal(compiled(x), layer(x))


def test_weights_are_found_wherever_they_are_kept(layer):
    packed = lutsmith.PackedWeight(layer.weight, layer.format)
    layer.packed_weights = lambda: [packed]
    for holder in (
        packed,
        [packed],
        {"layer": packed},
        {"layer": packed}.values(),
        layer,
        [torch.nn.Sequential(layer)],
    ):
        assert [kernel["n"] for kernel in lutsmith.manifest(holder)] == [64]
    assert lutsmith.manifest(torch.nn.Linear(8, 8)) == []
    for wrong in ("layer", packed.data, 3):
        with pytest.raises(lutsmith.Error, match=f"weights: {type(wrong).__name__}"):
            lutsmith.manifest(wrong)


def test_matmul_of_packed_weights_compiles_whole(layer):
    packed = lutsmith.PackedWeight(layer.weight, layer.format)
    compiled = torch.compile(lambda x: lutsmith.matmul(x, [packed, packed]), fullgraph=True, backend="aot_eager")
    x = random_x(3, 128)
    for y in compiled(x):
        assert torch.equal(y, lutsmith.matmul(x, packed))


def test_exported_layer_is_plain_data(layer, tmp_path):
    tokens = torch.export.Dim("tokens", min=1, max=4096)
    exported = torch.export.export(layer, (random_x(3, 128),), dynamic_shapes=({0: tokens},))
    torch.export.save(exported, tmp_path / "layer.pt2")
    loaded = torch.export.load(tmp_path / "layer.pt2").module()
    for tokens in (1, 5):
        x = random_x(tokens, 128)
        assert torch.equal(loaded(x), layer(x))


def test_shapes_are_known_without_computing(layer):
    with torch.device("meta"):
        y = layer.to("meta")(torch.empty(3, 5, 128, dtype=torch.float16))
    assert y.shape == (3, 5, 64) and y.dtype == torch.float16
