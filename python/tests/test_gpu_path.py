"""How calls reach a GPU, on the project's stand-in for the driver: no GPU is needed, and nothing is computed.

Needs the folder with the stand-in in LUTSMITH_TEST_DRIVER, which scripts/test-python sets, and an NVRTC.
"""

from __future__ import annotations

import pytest
from stand_in_process import needs_stand_in

pytestmark = needs_stand_in


def test_first_call_gets_the_kernel_and_later_ones_only_launch(stand_in):
    def body():
        x = x_of(3, 128)
        y = launch(packed, x)
        assert launches() == 1
        assert last_launch() == (packed.data.data_ptr(), x.data_ptr(), y.data_ptr(), 128, 64, 3, STREAM)
        made = allocations()
        for tokens in (2, 8, 3, 5):  # which have the same kernel
            launch(packed, x_of(tokens, 128))
            assert last_launch().tokens == tokens
        assert (launches(), allocations()) == (5, made)

    stand_in.run(body)


def test_strides_are_honoured_or_rows_copied(stand_in):
    def body():
        wide = x_of(6, 256)
        views = {
            "rows apart": (wide[:, :128], 256),
            "every other row": (wide[::2, 128:], 512),
            "three dimensions": (wide.view(2, 3, 256)[:, :, :128], 256),
            "one row of many": (wide[2:3, :128], 128),
        }
        for name, (view, stride) in views.items():
            launch(packed, view)
            assert (last_launch().x, last_launch().x_stride) == (view.data_ptr(), stride), name
        copied = {
            "misaligned": torch.zeros(6 * 128 + 1, dtype=torch.float16)[1:].view(6, 128),
            "rows at odd distances": torch.zeros(6, 132, dtype=torch.float16)[:, :128],
            "transposed": torch.zeros(128, 6, dtype=torch.float16).t(),
            "one row said to be many": wide[:1, :128].expand(6, 128),
        }
        for name, view in copied.items():
            launch(packed, view)
            assert last_launch().x != view.data_ptr() and last_launch().x_stride == 128, name
            assert last_launch().x % 16 == 0 and last_launch().tokens == 6, name
        out = torch.empty(6, 200, dtype=torch.float16)
        launch(packed, wide[:, :128], out[:, 100:164])
        assert (last_launch().y, last_launch().y_stride) == (out[:, 100:164].data_ptr(), 200)
        assert gpu.can_write(out[:, 100:164]) and gpu.can_write(torch.empty(2, 3, 64))
        assert not gpu.can_write(out.t()) and not gpu.can_write(torch.empty(2, 3, 65)[..., :64])

    stand_in.run(body)


def test_test_that_never_ends_fails_and_the_next_one_runs(stand_in):
    def body():
        import subprocess, sys

        subprocess.run([sys.executable, "-c", "while True: pass"])

    with pytest.raises(pytest.fail.Exception, match="has not ended"):
        stand_in.run(body, limit=1)
    stand_in.run(lambda: 0)


def test_what_is_made_and_never_found_is_an_error_instead_of_a_hang(stand_in):
    def body():
        def load_nothing(service, device, tokens, batch_invariant):
            return "memory"

        class Broken:
            load = staticmethod(load_nothing)
            launch = packed._format.core.launch

        with pytest.raises(lutsmith.Error, match="was made and is not found: a bug"):
            packed._format.core = Broken()
            launch(packed, x_of(1, 128))

    stand_in.run(body)


def test_tensors_that_c_reads_are_launched_as_from_python(stand_in):
    def body():
        exchange_tensors()
        assert gpu.exchanges_tensors
        assert multiply(packed, x_of(3, 128)) is None  # there is no kernel yet
        for tokens in (1, 3):
            launch(packed, x_of(tokens, 128))
        made = allocations()
        for shape in ((128,), (3, 128), (2, 3, 128), (1, 1, 1, 8, 128)):
            x = x_of(*shape)
            y = multiply(packed, x)
            assert y.shape == (*shape[:-1], 64) and y.dtype == x.dtype and y.is_contiguous()
            tokens = x.numel() // 128
            assert last_launch() == (packed.data.data_ptr(), x.data_ptr(), y.data_ptr(), 128, 64, tokens, STREAM)
        assert (launches(), allocations()) == (6, made)
        other = lutsmith.quantize(random_weight(64, 128, torch.bfloat16), bits=3)
        launch(other, x_of(1, 128).bfloat16())
        assert multiply(other, x_of(1, 128).bfloat16()).dtype == torch.bfloat16

    stand_in.run(body)


def test_tensors_that_take_more_than_a_launch_are_left_to_python(stand_in):
    def body():
        exchange_tensors()
        launch(packed, x_of(1, 128))
        weights = packed.data
        left = {
            "rows apart": x_of(2, 256)[:, :128],
            "transposed": x_of(128, 2).t(),
            "misaligned": x_of(2 * 128 + 1)[1:].view(2, 128),
            "no tokens": x_of(0, 128),
            "no dimension": x_of(1)[0],
            "nine dimensions": x_of(*[1] * 8, 128),
            "another k": x_of(1, 120),
            "another type": x_of(1, 128).bfloat16(),
            "another type as wide": x_of(1, 128).float(),
            "no kernel for so many": x_of(16, 128),
        }
        for name, x in left.items():
            assert multiply(packed, x) is None, name
        for name, data in {
            "short": weights[:-1],
            "every other byte": torch.empty(2 * weights.numel(), dtype=torch.uint8)[::2],
            "two dimensions": weights.view(1, -1),
            "another type": weights.view(torch.float16),
            "another device": weights.clone(),
        }.items():
            if name == "another device":
                stand_in.devices[data.data_ptr()] = 1
            assert packed._format.core.multiply(x_of(1, 128), data, gpu.empty, packed.dtype, False) is None, name

        def empty_elsewhere(*given):
            y = stand_in.empty(*given)
            stand_in.devices[y.data_ptr()] = 1
            return y

        assert packed._format.core.multiply(x_of(1, 128), weights, empty_elsewhere, packed.dtype, False) is None
        stand_in.devices.clear()
        with pytest.raises(ValueError, match="from empty"):

            def refuse(*given):
                raise ValueError("from empty")

            packed._format.core.multiply(x_of(1, 128), weights, refuse, packed.dtype, False)
        with pytest.raises(lutsmith.Error, match=r"x: shape \(1, 120\) is not allowed"):
            operators._matmul_cuda(x_of(1, 120), weights, packed.format)
        with pytest.raises(lutsmith.Error, match="weights: .* bytes given"):
            operators._matmul_cuda(x_of(1, 128), weights[:-1], packed.format)
        assert launches() == 1
        assert multiply(packed, x_of(1, 128)) is not None

    stand_in.run(body)


def test_tensors_that_c_reads_go_to_the_current_stream_and_its_workspace(stand_in):
    def body():
        exchange_tensors()
        gpu.prepare(packed, tokens=[1], device="cuda:0")
        launch(packed, x_of(1, 128))
        stand_in.current["stream"] = OTHER_STREAM
        assert multiply(packed, x_of(1, 128)) is None  # it has no workspace yet
        with capture(OTHER_STREAM):
            assert multiply(packed, x_of(1, 128)) is not None  # by the one for captures
            assert last_launch().stream == OTHER_STREAM
        stand_in.current["stream"] = STREAM
        with capture(STREAM):
            assert multiply(packed, x_of(1, 128)) is None  # which another stream has now
        assert multiply(packed, x_of(1, 128)) is not None and last_launch().stream == STREAM

    stand_in.run(body)


def test_interface_of_another_major_version_is_not_used_but_an_older_one_behind_it(stand_in):
    def body():
        launch(packed, x_of(1, 128))
        first = exchange_tensors()
        exchange_tensors(major_version=2)
        assert not gpu.exchanges_tensors and multiply(packed, x_of(1, 128)) is None
        exchange_tensors(major_version=2, older=first)
        assert gpu.exchanges_tensors and multiply(packed, x_of(1, 128)) is not None

    stand_in.run(body)


def test_nothing_is_launched_for_no_tokens(stand_in):
    def body():
        launch(packed, x_of(0, 128))
        launch(packed, x_of(2, 0, 128))
        assert launches() == 0

    stand_in.run(body)


def test_every_stream_has_a_workspace_of_its_own(stand_in):
    def body():
        launch(packed, x_of(1, 128))
        launch(packed, x_of(1, 128))
        assert _core.count_workspaces(0, False) == 1
        launch(packed, x_of(1, 128), stream=OTHER_STREAM)
        launch(packed, x_of(1, 128), stream=0)
        assert _core.count_workspaces(0, False) == 3
        assert last_launch().stream is None  # the default stream

    stand_in.run(body)


def test_capture_of_what_was_not_prepared_names_the_remedy(stand_in):
    def body():
        launch(packed, x_of(1, 128))
        with capture():
            with pytest.raises(
                lutsmith.Error, match=r"16 tokens for w4 g64 64x128.*lutsmith.prepare\(model, tokens=\[16\]\)"
            ):
                launch(packed, x_of(16, 128))
            with pytest.raises(lutsmith.Error, match=r"lutsmith.prepare\(model, capture_streams=1\)"):
                launch(packed, x_of(1, 128))
        assert launches() == 1

    stand_in.run(body)


def test_prepared_weights_are_captured_without_an_allocation(stand_in):
    def body():
        gpu.prepare(packed, tokens=[1, 5], device="cuda:0")
        made = allocations()
        for _ in range(2):
            with capture():
                launch(packed, x_of(1, 128))
                launch(packed, x_of(7, 128))
        assert (launches(), allocations()) == (4, made)
        with capture(OTHER_STREAM):
            with pytest.raises(lutsmith.Error, match="capture_streams=2"):
                launch(packed, x_of(1, 128), stream=OTHER_STREAM)
        lutsmith.prepare(packed, tokens=[1], device=0, capture_streams=2)
        with capture(OTHER_STREAM):
            launch(packed, x_of(1, 128), stream=OTHER_STREAM)
        assert launches() == 5
        assert _core.count_workspaces(0, True) == 2

    stand_in.run(body)


def test_prepare_finds_weights_in_modules_and_tells_of_its_work_in_a_line(stand_in, tmp_path):
    def body():
        class Layer(torch.nn.Module):
            def __init__(self, packed):
                super().__init__()
                self.packed = packed

            def packed_weights(self):
                return [self.packed]

        other = lutsmith.quantize(random_weight(32, 128), bits=3)
        model = torch.nn.Sequential(Layer(packed), torch.nn.ReLU(), torch.nn.Sequential(Layer(other), Layer(other)))
        done = lutsmith.prepare(model, tokens=[1, 2, 3, 4], device="cuda:0")
        assert (done.kernels, done.compiled) == (4, 4)
        again = lutsmith.prepare([model, packed], tokens=[1, 8], device="cuda:0")
        assert (again.kernels, again.compiled) == (4, 0)
        assert lutsmith.prepare(model).kernels == 0  # they are on the CPU
        assert gpu.all_buckets()[:3] == [1, 8, 16]

    errors = stand_in.run(body, LUTSMITH_CACHE_DIR=str(tmp_path))
    assert errors == "lutsmith: 4 of 4 kernels ready, 4 compiled, " + errors.split("compiled, ")[1]
    assert errors.count("\n") == 1


def test_weights_that_only_the_cpu_multiplies_are_refused_with_what_to_do(stand_in):
    def body():
        wide = lutsmith.quantize(random_weight(64, 128), bits=5)
        with pytest.raises(lutsmith.Error, match="at most 4 bits"):
            launch(wide, x_of(1, 128))

    stand_in.run(body)


def test_kernels_are_of_the_compiler_that_the_command_line_uses(stand_in, tmp_path):
    def body():
        import subprocess, sys

        warm = [sys.executable, "-m", "lutsmith", "compile", "--target", "native", "--bits", "4", "--group", "64"]
        subprocess.run([*warm, "--n", "64", "--k", "128", "--m", "1"], check=True)
        assert lutsmith.prepare(packed, tokens=[1], device="cuda:0").compiled == 0

    stand_in.run(body, LUTSMITH_CACHE_DIR=str(tmp_path))


def test_manifest_warms_what_is_prepared_later(stand_in, tmp_path):
    def body():
        import json, os, subprocess, sys

        by_row = lutsmith.quantize(random_weight(32, 128, torch.bfloat16), bits=3, group="channel")
        weights = [packed, by_row, packed]
        kernels = lutsmith.manifest(weights, tokens=[5, 1])
        assert kernels == [
            {"bits": 4, "group": 64, "n": 64, "k": 128, "dtype": "f16", "table": "scalar", "m": [1, 5]},
            {"bits": 3, "group": "channel", "n": 32, "k": 128, "dtype": "bf16", "table": "scalar", "m": [1, 5]},
        ]
        path = os.environ["LUTSMITH_CACHE_DIR"] + "/kernels.json"
        with open(path, "w") as file:
            json.dump(kernels, file)
        warm = [sys.executable, "-m", "lutsmith", "warm", "--manifest", path, "--target", "sm_90a"]
        subprocess.run(warm, check=True)
        assert lutsmith.prepare(weights, tokens=[1, 8], device="cuda:0")[:2] == (4, 0)

    stand_in.run(body, LUTSMITH_CACHE_DIR=str(tmp_path))


def test_segments_bring_their_tables_to_one_launch(stand_in, tmp_path):
    def body():
        import json, os, subprocess, sys

        members = [lutsmith.quantize(random_weight(64, 128), method=method) for method in ("nf", "int")]
        joined = lutsmith.concatenate(members)
        (kernel,) = lutsmith.manifest(joined, tokens=[1, 64])
        assert (kernel["n"], kernel["segment_rows"]) == (128, 64)
        path = os.environ["LUTSMITH_CACHE_DIR"] + "/kernels.json"
        with open(path, "w") as file:
            json.dump([kernel], file)
        warm = [sys.executable, "-m", "lutsmith", "warm", "--manifest", path, "--target", "sm_90a"]
        subprocess.run(warm, check=True)
        assert lutsmith.prepare(joined, tokens=[1, 64], device="cuda:0")[:2] == (2, 0)
        for tokens in (1, 50):
            launch(joined, x_of(tokens, 128))
        assert launches() == 2
        with pytest.raises(lutsmith.Error, match="segment_rows: 64 is not allowed with batch_invariant"):
            lutsmith.prepare(joined, tokens=[1], device="cuda:0", batch_invariant=True)

    stand_in.run(body, LUTSMITH_CACHE_DIR=str(tmp_path))


def test_prepare_and_manifest_ask_for_what_the_layers_of_a_model_call(stand_in, tmp_path):
    def body():
        import json, os, subprocess, sys
        from lutsmith.nn import Linear, set_batch_invariant

        model = torch.nn.Sequential(Linear(packed, batch_invariant=True), Linear(packed))
        kernels = lutsmith.manifest(model, tokens=[1])
        assert [kernel.get("batch_invariant", False) for kernel in kernels] == [True, False]
        path = os.environ["LUTSMITH_CACHE_DIR"] + "/kernels.json"
        with open(path, "w") as file:
            json.dump(kernels, file)
        warm = [sys.executable, "-m", "lutsmith", "warm", "--manifest", path, "--target", "sm_90a"]
        subprocess.run(warm, check=True)
        assert lutsmith.prepare(model, tokens=[1], device="cuda:0")[:2] == (2, 0)
        for batch_invariant in (True, False):
            message = rf"Linear of the model has .*set_batch_invariant\(model, {batch_invariant}"
            with pytest.raises(lutsmith.Error, match=message):
                lutsmith.prepare(model, tokens=[1], device="cuda:0", batch_invariant=batch_invariant)
        set_batch_invariant(model)
        assert lutsmith.prepare(model, tokens=[1], device="cuda:0", batch_invariant=True)[:2] == (1, 0)
        with capture():
            for layer in model:
                launch(packed, x_of(1, 128), batch_invariant=layer.batch_invariant)

    stand_in.run(body, LUTSMITH_CACHE_DIR=str(tmp_path))


def test_forked_child_is_told_so_instead_of_hanging(stand_in):
    def body():
        import os

        launch(packed, x_of(1, 128))
        child = os.fork()
        if child == 0:
            try:
                launch(packed, x_of(1, 128))
            except lutsmith.Error as refused:
                os._exit(0 if "fork" in str(refused) else 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    stand_in.run(body)


def test_compiler_may_be_forbidden(stand_in, tmp_path):
    def body():
        with pytest.raises(lutsmith.Error, match="lutsmith") as refused:
            launch(packed, x_of(1, 128))
        assert refused.value.code == "not_found"

    stand_in.run(body, LUTSMITH_COMPILE="never", LUTSMITH_CACHE_DIR=str(tmp_path))
