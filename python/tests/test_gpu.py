"""lutsmith.matmul on a GPU."""

from __future__ import annotations

import gc

import pytest
import torch

import lutsmith
from lutsmith.nn import FusedLinear, Linear, set_batch_invariant
from reference import assert_right, product, random_weight

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")

TOKENS = [1, 3, 16, 40, 130]


def random_x(*shape: int, dtype: torch.dtype = torch.float16, seed: int = 5) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype).cuda()


def packed_on_gpu(n: int, k: int, dtype: torch.dtype = torch.float16, seed: int = 0, **settings):
    return lutsmith.quantize(random_weight(n, k, dtype, seed), **settings).cuda()


def right(y: torch.Tensor, x: torch.Tensor, packed: lutsmith.PackedWeight) -> None:
    assert y.is_cuda
    assert_right(y.cpu(), product(x.cpu(), packed.cpu()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_product_is_right_for_every_number_of_tokens(dtype, bits):
    method = "int" if bits == 1 else "nf"
    packed = packed_on_gpu(520, 1032, dtype, method=method, bits=bits, group=64)
    for tokens in TOKENS:
        x = random_x(tokens, 1032, dtype=dtype)
        right(lutsmith.matmul(x, packed), x, packed)
    assert lutsmith.matmul(random_x(0, 1032, dtype=dtype), packed).shape == (0, 520)


def test_weights_quantized_there_are_those_quantized_on_the_cpu():
    weight = random_weight(96, 256)
    there = lutsmith.quantize(weight.cuda())
    assert there.device.type == "cuda"
    assert torch.equal(there.data.cpu(), lutsmith.quantize(weight).data)
    assert torch.equal(there.dequantize().cpu(), there.cpu().dequantize())


def test_strides_of_x_and_out_are_honoured():
    packed = packed_on_gpu(256, 512)
    x = random_x(12, 1040)
    for view in (x[:, :512], x[::2, 8:520], x[:, 1:513], x.view(3, 4, 1040)[..., :512], x[:1, :512].expand(12, 512)):
        expected = lutsmith.matmul(view.contiguous(), packed)
        assert torch.equal(lutsmith.matmul(view, packed), expected)
        out = torch.full((*view.shape[:-1], 300), 7.0, dtype=torch.float16, device="cuda")
        assert torch.equal(lutsmith.matmul(view, packed, out=out[..., 20:276]), expected)
        assert (out[..., :20] == 7).all() and (out[..., 276:] == 7).all()


def test_bias_and_members_of_a_fused_layer():
    first, second = packed_on_gpu(256, 512, seed=1, bits=4), packed_on_gpu(128, 512, seed=2, bits=3, group=32)
    x, bias = random_x(4, 512), random_x(256)
    products = lutsmith.matmul(x, [first, second], bias=[bias, None])
    assert torch.equal(products[0], lutsmith.matmul(x, first, bias))
    assert torch.equal(products[1], lutsmith.matmul(x, second))


def order_shows(weight: torch.Tensor, x: torch.Tensor, unit: int = 128) -> None:
    """What the first columns add the fourth ones take away again, and all others are 2^16 times smaller: how much is
    left of those depends on what they were added to. So the order of a sum shows in 16 bits."""
    weight[:, 3 * unit : 4 * unit] = weight[:, :unit]
    x *= 2**-8
    x[:, :unit] *= 2**16
    x[:, 3 * unit : 4 * unit] = -x[:, :unit]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bits", [3, 4])
def test_token_among_others_has_the_bits_that_it_has_alone(dtype, bits):
    weight = random_weight(1032, 4096, dtype)
    x = random_x(101, 4096, dtype=dtype)
    order_shows(weight, x)
    packed = lutsmith.quantize(weight, bits=bits, group=128).cuda()
    bias = random_x(1032, dtype=dtype)
    layer = Linear(packed, bias, batch_invariant=True)
    alone = torch.cat([lutsmith.matmul(x[i : i + 1], packed, batch_invariant=True) for i in range(len(x))])
    alone_with_bias = torch.cat([layer(x[i : i + 1]) for i in range(len(x))])  # is added before the sum is rounded
    for tokens in (2, 8, 17, 64, 101):
        together = lutsmith.matmul(x[:tokens], packed, batch_invariant=True)
        assert torch.equal(together, alone[:tokens]), tokens
        out = torch.empty(tokens, 2000, dtype=dtype, device="cuda")[:, :1032]
        assert torch.equal(lutsmith.matmul(x[-tokens:], packed, out=out, batch_invariant=True), alone[-tokens:]), tokens
        assert torch.equal(layer(x[:tokens]), alone_with_bias[:tokens]), tokens
    # What is compared would show it.
    assert not torch.equal(lutsmith.matmul(x, packed)[:1], lutsmith.matmul(x[:1], packed))


def test_replay_of_a_captured_batch_invariant_model_is_equal():
    layers = [Linear(packed_on_gpu(512, 256, seed=1)), Linear(packed_on_gpu(256, 512, seed=2, bits=3))]
    model = torch.nn.Sequential(*layers)
    set_batch_invariant(model)
    lutsmith.prepare(model, tokens=[1, 100], progress=False)
    x = random_x(100, 256)
    products = []
    for tokens in (1, 100):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = model(x[:tokens])
        graph.replay()
        products.append(y)
    assert torch.equal(products[0], products[1][:1])


def test_weights_and_x_on_different_devices_are_refused():
    packed = packed_on_gpu(64, 128)
    with pytest.raises(lutsmith.Error, match="they are on cuda:0, x on cpu"):
        lutsmith.matmul(random_x(1, 128).cpu(), packed)


class Layers(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.packed = [packed_on_gpu(512, 256, seed=1), packed_on_gpu(256, 512, seed=2, bits=3)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return lutsmith.matmul(torch.relu(lutsmith.matmul(x, self.packed[0])), self.packed[1])

    def packed_weights(self):
        return self.packed


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_model_is_whole_and_equal(mode):
    pytest.importorskip("triton", reason="torch compiles for GPUs by Triton")
    model = Layers()
    lutsmith.prepare(model, tokens=TOKENS, capture_streams=2, progress=False)
    with torch.inference_mode():
        compiled = torch.compile(model, fullgraph=True, mode=mode)
        for _ in range(3):  # of which "reduce-overhead" captures the second
            for tokens in (1, 3):
                x = random_x(tokens, 256)
                assert torch.equal(compiled(x).clone(), model(x))


@pytest.mark.parametrize("tokens", TOKENS)
def test_replay_of_a_captured_model_is_equal(tokens):
    model = Layers()
    lutsmith.prepare(model, tokens=[tokens], progress=False)
    x = random_x(tokens, 256)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = model(x)
    for seed in range(20):
        x.copy_(random_x(tokens, 256, seed=seed))
        graph.replay()
        assert torch.equal(y, model(x))


def test_capture_of_what_was_not_prepared_names_the_remedy_and_harms_nothing():
    packed = packed_on_gpu(136, 264)
    x = random_x(1, 264)
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(lutsmith.Error, match=r"lutsmith.prepare\(model, tokens=\[1\]\)"):
        with torch.cuda.graph(graph):
            lutsmith.matmul(x, packed)
    right(lutsmith.matmul(x, packed), x, packed)


def test_streams_do_not_disturb_each_other():
    # Few rows and a long k: tiles are cut, and partial sums go through the workspaces.
    packed = packed_on_gpu(256, 8192)
    x = [random_x(1, 8192, seed=seed) for seed in range(2)]
    expected = [lutsmith.matmul(one, packed) for one in x]
    streams = [torch.cuda.Stream() for _ in x]
    torch.cuda.synchronize()
    products: list[list[torch.Tensor]] = [[], []]
    for _ in range(200):
        for i, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                products[i].append(lutsmith.matmul(x[i], packed))
    torch.cuda.synchronize()
    for i in range(2):
        assert all(torch.equal(y, expected[i]) for y in products[i])


def test_ten_thousand_calls_leave_no_memory_behind():
    packed = packed_on_gpu(512, 1024)
    x = random_x(1, 1024)

    def used_after(calls: int) -> tuple[int, int, int]:
        """Bytes that torch has given out, bytes of the GPU that are free, and Python's objects."""
        for _ in range(calls):
            lutsmith.matmul(x, packed)
        torch.cuda.synchronize()
        gc.collect()
        return torch.cuda.memory_allocated(), torch.cuda.mem_get_info()[0], len(gc.get_objects())

    # What grows once, such as the driver's own queues, does so while as many calls are made as are then looked at. A
    # leak grows with every call, so that twice as many must take more.
    allocated, free, objects = used_after(10_000)
    allocated_later, free_later, objects_later = used_after(20_000)
    assert allocated_later == allocated
    assert free_later >= free
    assert objects_later < objects + 100


def test_weights_take_the_packed_bytes_and_no_more():
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    packed = packed_on_gpu(4096, 4096)
    assert packed.nbytes <= torch.cuda.memory_allocated() - before < packed.nbytes + 1024


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_product_runs_where_its_tensors_are():
    packed = packed_on_gpu(256, 512).to("cuda:1")
    x = random_x(2, 512).to("cuda:1")
    y = lutsmith.matmul(x, packed)
    assert y.device == torch.device("cuda:1") and torch.cuda.current_device() == 0
    right(y, x, packed)


def test_fused_layers_are_right_and_their_replay_is_equal():
    sizes = [256, 64, 72]
    layers = [Linear(packed_on_gpu(n, 512, seed=i), random_x(n, seed=i) if i else None) for i, n in enumerate(sizes)]
    together = FusedLinear(layers)
    assert together.apart is None
    lutsmith.prepare(together, tokens=[4, 40], progress=False)
    for tokens in (4, 40):
        x = random_x(tokens, 512)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            ys = together(x)
            again = [member(x) for member in together.members]
        for seed in range(3):
            x.copy_(random_x(tokens, 512, seed=seed))
            graph.replay()
            for y, member, layer in zip(ys, again, layers):
                expected = product(x.cpu(), layer.packed_weights()[0].cpu())
                if layer.bias is not None:
                    expected = expected + layer.bias.cpu().double()
                assert_right(y.cpu(), expected)
                assert torch.equal(member, y)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("group", [32, 128, "channel"])
def test_tables_of_segments_are_those_of_their_rows(bits, group):
    sizes, methods = [512, 128, 256, 40], ["nf", "int", "lloyd", "int"]
    members = [
        packed_on_gpu(n, 1032, seed=i, method=method, bits=bits, group=group)
        for i, (n, method) in enumerate(zip(sizes, methods))
    ]
    joined = lutsmith.concatenate(members)
    assert joined.segments == tuple(sizes)
    for tokens in TOKENS:
        x = random_x(tokens, 1032)
        out = torch.full((tokens, sum(sizes)), torch.nan, dtype=torch.float16, device="cuda")
        for batch_invariant in (False, True):
            lutsmith.matmul(x, joined, out=out, batch_invariant=batch_invariant)
            for y, member in zip(out.split(sizes, -1), members):
                right(y, x, member)
            out.fill_(torch.nan)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_rows_with_tables_of_their_own_are_right(bits):
    generator = torch.Generator().manual_seed(bits)
    codes = torch.randint(0, 2**bits, (520, 1032), generator=generator, dtype=torch.uint8)
    scales, tables = (torch.randn(*shape, generator=generator).half() for shape in ((520, 17), (520, 2**bits)))
    packed = lutsmith.PackedWeight.from_codes(codes, scales / 32, tables, 64).cuda()
    for tokens in TOKENS:
        x = random_x(tokens, 1032)
        right(lutsmith.matmul(x, packed), x, packed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_x_is_transformed_for_transformed_weights_and_a_replay_is_equal(dtype):
    packed = packed_on_gpu(256, 1536, dtype, method="higgs")
    lutsmith.prepare(packed, tokens=TOKENS, progress=False)
    for tokens in TOKENS:
        x = random_x(tokens, 1536, dtype=dtype)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = lutsmith.matmul(x, packed)
        x.copy_(random_x(tokens, 1536, dtype=dtype, seed=tokens))
        graph.replay()
        right(y, x, packed)
        assert torch.equal(y, lutsmith.matmul(x, packed))


def test_token_of_transformed_weights_has_the_bits_that_it_has_alone():
    packed = packed_on_gpu(256, 1536, method="higgs", bits=3)
    lutsmith.prepare(packed, tokens=[1, 100], progress=False, batch_invariant=True)
    x = random_x(100, 1536)
    together = lutsmith.matmul(x, packed, batch_invariant=True)
    right(together, x, packed)
    for row in (0, 57, 99):
        assert torch.equal(lutsmith.matmul(x[row : row + 1], packed, batch_invariant=True), together[row : row + 1])


def test_capture_of_a_transform_that_was_not_prepared_names_the_remedy():
    packed = packed_on_gpu(64, 96, method="higgs", bits=2, hadamard=8)  # a block that no other test has
    x = random_x(1, 96)
    with pytest.raises(lutsmith.Error, match=r"lutsmith.prepare\(model\) before"):
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            lutsmith.matmul(x, packed)
