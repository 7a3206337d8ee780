"""The command line: `lutsmith` and `python -m lutsmith` are the program that the package brings along."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from lutsmith import toolchain

PROGRAM = Path(__file__).with_name("bin") / "lutsmith"


def main() -> NoReturn:
    """Becomes the program, whose exit status and signals are this process's, unless asked for what is Python's own.

    It compiles with what the package compiles with: kernels of another compiler would not be found in the cache.
    """
    if sys.argv[1:2] == ["import"]:  # of what other libraries have quantized; what takes torch is the package's own work
        from lutsmith.checkpoints import command

        sys.exit(command.main(sys.argv[2:]))
    if sys.argv[1:2] == ["evaluate"]:
        from lutsmith.evaluation import command

        sys.exit(command.main(sys.argv[2:]))
    if sys.argv[1:2] == ["plan"]:
        from lutsmith.planning import command

        sys.exit(command.main(sys.argv[2:]))
    compiler = toolchain.nvrtc()
    if compiler is not None:
        os.environ["LUTSMITH_NVRTC"] = compiler
    sys.stdout.flush()
    os.execv(PROGRAM, [str(PROGRAM), *sys.argv[1:]])


if __name__ == "__main__":
    main()
