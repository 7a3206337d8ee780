"""Runs code in processes of their own that have the project's stand-in for the driver instead of a GPU."""

from __future__ import annotations

import inspect
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DRIVER = os.environ.get("LUTSMITH_TEST_DRIVER")

needs_stand_in = pytest.mark.skipif(
    not DRIVER, reason="LUTSMITH_TEST_DRIVER names no folder with the stand-in driver"
)

#: After which a test that still runs is taken for one that never ends: it compiles a few kernels.
LIMIT_SECONDS = 600

PRELUDE = """
import pytest, torch, lutsmith
import stand_in
from lutsmith import _core, gpu, operators
from stand_in import STREAM, OTHER_STREAM, allocations, capture, last_launch, launch, launches
from stand_in import exchange_tensors, multiply
from reference import random_weight

packed = lutsmith.quantize(random_weight(64, 128), bits=4, group=64)
def x_of(*shape):
    return torch.zeros(*shape, dtype=torch.float16)
"""


class StandIn:
    """Runs the bodies of functions in processes that have the stand-in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs = 0
        self._server: subprocess.Popen[str] | None = None

    def _started(self) -> subprocess.Popen[str]:
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-W", "ignore", TESTS / "stand_in_server.py"],
                env={
                    **os.environ,
                    "LD_LIBRARY_PATH": f"{DRIVER}:{os.environ.get('LD_LIBRARY_PATH', '')}",
                    "LUTSMITH_CACHE_DIR": str(self._folder / "cache"),
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # so that it can be ended with all that it started
            )
        return self._server

    def run(self, function: Callable[[], None], limit: float = LIMIT_SECONDS, **environment: str) -> str:
        """Standard error of what ran."""
        self._runs += 1
        errors = self._folder / f"errors.{self._runs}"
        body = textwrap.dedent("".join(inspect.getsource(function).splitlines(keepends=True)[1:]))
        request = {"code": PRELUDE + body, "environment": environment, "errors": str(errors)}
        server = self._started()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        answered, _, _ = select.select([server.stdout], [], [], limit)
        if not answered:
            self._kill()
            pytest.fail(f"it has not ended after {limit:.0f} s\n{errors.read_text() if errors.exists() else ''}")
        status = server.stdout.readline().strip()
        assert status == "0", errors.read_text()
        return errors.read_text()

    def _kill(self) -> None:
        server, self._server = self._server, None
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    def close(self) -> None:
        if self._server is not None:
            self._server.stdin.close()
            self._server.wait()
