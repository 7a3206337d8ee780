"""Runs pieces of Python, each in a fork of this process, which has loaded torch once for all of them.

A line of standard input is a JSON object {"code", "environment", "errors": where standard error goes}; the answer is a
line with the exit status.
"""

from __future__ import annotations

import json
import os
import sys
import traceback

import stand_in  # noqa: F401  (loads torch, lutsmith and the stand-in driver, which is not opened yet)

import lutsmith.operators  # noqa: F401


def run(request: dict) -> None:
    """In a child, which does not return."""
    status = 1
    try:
        errors = os.open(request["errors"], os.O_WRONLY | os.O_CREAT)
        os.dup2(errors, sys.stderr.fileno())
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # which is for answers
        os.environ.update(request["environment"])
        exec(compile(request["code"], "test", "exec"), {"__name__": "test"})
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        run(json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
