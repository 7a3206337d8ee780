"""Fixtures of several files."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stand_in_process import StandIn


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory) -> Iterator[StandIn]:
    started = StandIn(tmp_path_factory.mktemp("stand_in"))
    yield started
    started.close()
