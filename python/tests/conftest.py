"""Fixtures of several files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from stand_in_process import StandIn


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory) -> Iterator[StandIn]:
    started = StandIn(tmp_path_factory.mktemp("stand_in"))
    yield started
    started.close()


CLAIMS = pytest.StashKey[dict[str, bool]]()


def claimed_by_other(config: pytest.Config, module: str) -> bool:
    """Whether another of the processes that share these tests runs those of the module; else this one will."""
    folder = os.environ.get("LUTSMITH_TEST_CLAIMS")
    if folder is None:
        return False
    claims = config.stash.setdefault(CLAIMS, {})
    if module not in claims:
        try:
            (Path(folder) / module).touch(exist_ok=False)
            claims[module] = True
        except FileExistsError:
            claims[module] = False
    return not claims[module]


# scripts/test-python lets several processes share the tests. Each goes through all of them and runs those of the modules
# that it meets first; one goes through them from the end. A module stays whole, for the sake of its fixtures.
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    return claimed_by_other(item.config, item.path.name) or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "LUTSMITH_TEST_BACKWARDS" in os.environ:
        modules = list(dict.fromkeys(item.path for item in items))
        items.sort(key=lambda item: -modules.index(item.path))
