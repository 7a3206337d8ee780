"""How residuals, biases and gates reach a GPU, on the project's stand-in for the driver: nothing is computed."""

from __future__ import annotations

from stand_in_process import needs_stand_in

pytestmark = needs_stand_in


def test_what_is_added_reaches_the_one_launch(stand_in):
    def body():
        from stand_in import last_added

        gpu.current_stream = lambda device: STREAM
        x, bias, residual = x_of(2, 128), x_of(64), x_of(2, 64)
        wide = x_of(2, 80)[:, :64]
        matmul = operators._matmul_cuda
        for exchange in (False, True):
            if exchange:
                exchange_tensors()
            for _ in range(2):  # the second time by C alone, where it can
                seen = launches()
                matmul(x, packed.data, packed.format, bias)
                assert last_added()[::2] == (0, bias.data_ptr())
                matmul(x, packed.data, packed.format, bias, False, residual)
                assert last_added()[::2] == (residual.data_ptr(), bias.data_ptr())
                y = matmul(x, packed.data, packed.format, residual=wide)
                assert last_added() == (wide.data_ptr(), 80, 0) and last_launch().y == y.data_ptr()
                assert launches() == seen + 3
                out = residual
                operators._matmul_out_cuda(x, packed.data, packed.format, None, out, False, residual)
                assert last_added().residual == last_launch().y == out.data_ptr()
                crossed = x_of(64, 2).t()
                matmul(x, packed.data, packed.format, residual=crossed)
                assert last_added().residual not in (0, crossed.data_ptr())
        with pytest.raises(lutsmith.Error, match=r"residual: .*\(2, 63\)"):
            matmul(x, packed.data, packed.format, residual=x_of(2, 63))
        with pytest.raises(lutsmith.Error, match="bias: torch.float32"):
            matmul(x, packed.data, packed.format, bias.float())

    stand_in.run(body)


def test_gated_products_have_half_as_many_channels(stand_in):
    def body():
        gpu.current_stream = lambda device: STREAM
        for exchange in (False, True):
            if exchange:
                exchange_tensors()
            for activation in ("silu", "gelu_tanh", "silu"):
                y = operators._gated_matmul_cuda(x_of(2, 3, 128), packed.data, packed.format, activation)
                assert y.shape == (2, 3, 32) and last_launch().y == y.data_ptr() and last_launch().y_stride == 32
        with pytest.raises(lutsmith.Error, match="activation: 'relu'"):
            operators._gated_matmul_cuda(x_of(2, 128), packed.data, packed.format, "relu")

    stand_in.run(body)


def test_prepared_kernels_are_those_that_calls_want(stand_in):
    def body():
        from lutsmith.nn import GatedLinear, Linear

        exchange_tensors()  # by which tensors of the CPU are on the device that kernels are prepared for
        gpu.current_stream = lambda device: STREAM
        layers = torch.nn.Sequential(Linear(packed, x_of(64)), GatedLinear(packed, packed, "gelu_tanh"))
        assert lutsmith.prepare(layers, tokens=[1], device="cuda:0").kernels == 2
        assert lutsmith.prepare(packed, tokens=[1], device="cuda:0", residual=True).kernels == 1
        launch(lutsmith.quantize(random_weight(64, 128), bits=3), x_of(1, 128))  # makes the stream's workspace
        made = allocations()
        linear, gated = layers
        with capture():
            operators._matmul_cuda(x_of(1, 128), linear.weight, linear.format, linear.bias)
            operators._gated_matmul_cuda(x_of(1, 128), gated.weight, gated.format, gated.gated)
            operators._matmul_cuda(x_of(1, 128), packed.data, packed.format, residual=x_of(1, 64))
            assert allocations() == made
            with pytest.raises(lutsmith.Error, match=r"tokens=\[1\], residual=True, bias=True\)"):
                operators._matmul_cuda(x_of(1, 128), packed.data, packed.format, x_of(64), False, x_of(1, 64))
            with pytest.raises(lutsmith.Error, match=r"tokens=\[1\], gated='silu'\)"):
                operators._gated_matmul_cuda(x_of(1, 128), packed.data, packed.format)

    stand_in.run(body)
