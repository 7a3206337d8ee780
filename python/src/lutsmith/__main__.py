"""The command line: `lutsmith` and `python -m lutsmith` are the program that the package brings along."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

PROGRAM = Path(__file__).with_name("bin") / "lutsmith"


def main() -> NoReturn:
    """Becomes the program: its exit status and signals are this process's."""
    sys.stdout.flush()
    os.execv(PROGRAM, [str(PROGRAM), *sys.argv[1:]])


if __name__ == "__main__":
    main()
