"""That the option for batch-invariant kernels reaches them, on the project's stand-in for the driver."""

from __future__ import annotations

from stand_in_process import needs_stand_in

pytestmark = needs_stand_in


def test_batch_invariant_products_ask_for_such_kernels(stand_in, tmp_path):
    def body():
        import json, os

        gpu.current_stream = lambda device: STREAM
        x = x_of(2, 128)

        def asked(call):
            seen = len(specs())
            with pytest.raises(lutsmith.Error, match="compiling is off"):
                call()
            return [spec.get("batch_invariant", False) for spec in specs()[seen:]]

        def specs():
            with open(os.environ["LUTSMITH_RECORD"]) as file:
                return [json.loads(line) for line in file]

        def weights():  # of a shape that no kernel was asked for
            weights.rows += 32
            one = lutsmith.quantize(random_weight(weights.rows, 128), bits=4, group=64)
            return one.data, one.format

        weights.rows = 64
        open(os.environ["LUTSMITH_RECORD"], "w").close()
        for exchange in (False, True):
            if exchange:
                exchange_tensors()
            for given, expected in ((), [False]), ((False,), [False]), ((True,), [True]):
                data, format = weights()
                assert asked(lambda: operators._matmul_cuda(x, data, format, None, *given)) == expected
                data, format = weights()
                out = torch.empty(2, weights.rows, dtype=torch.float16)
                assert asked(lambda: operators._matmul_out_cuda(x, data, format, None, out, *given)) == expected
                data, format = weights()
                out = torch.empty(weights.rows, 2, dtype=torch.float16).t()  # which no kernel can write to
                assert asked(lambda: operators._matmul_out_cuda(x, data, format, None, out, *given)) == expected

    record = str(tmp_path / "kernels.jsonl")
    stand_in.run(body, LUTSMITH_RECORD=record, LUTSMITH_COMPILE="never", LUTSMITH_CACHE_DIR=str(tmp_path))


def test_batch_invariant_reaches_the_product_that_c_makes_alone(stand_in):
    def body():
        exchange_tensors()
        given = []

        class Core:
            def multiply(x, weights, empty, dtype, batch_invariant):
                given.append(batch_invariant)
                return x_of(1, 64)

        packed._format.core = Core
        for batch_invariant in (False, True):
            operators._matmul_cuda(x_of(1, 128), packed.data, packed.format, None, batch_invariant)
        assert given == [False, True]

    stand_in.run(body)


def test_batch_invariant_kernels_are_kept_apart_from_others(stand_in):
    def body():
        exchange_tensors()
        assert lutsmith.prepare(packed, tokens=[1], device="cuda:0", batch_invariant=True).kernels == 1
        with capture():
            launch(packed, x_of(1, 128), batch_invariant=True)
            assert multiply(packed, x_of(1, 128), batch_invariant=True) is not None
            assert launches() == 2
            assert multiply(packed, x_of(1, 128)) is None
            with pytest.raises(lutsmith.Error, match=r"the kernel of 1 tokens .*prepare\(model, tokens=\[1\]\)"):
                launch(packed, x_of(1, 128))
        other = lutsmith.quantize(random_weight(32, 128), bits=4, group=64)
        lutsmith.prepare(other, tokens=[1], device="cuda:0")
        with capture():
            launch(other, x_of(1, 128))
            message = r"the batch-invariant kernel of 1 tokens .*prepare\(model, tokens=\[1\], batch_invariant=True\)"
            with pytest.raises(lutsmith.Error, match=message):
                launch(other, x_of(1, 128), batch_invariant=True)

    stand_in.run(body)
