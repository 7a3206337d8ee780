"""Which NVRTC the package names."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest

from lutsmith import toolchain


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """An environment's folder of NVIDIA's wheels, to be filled."""
    monkeypatch.delenv("LUTSMITH_NVRTC", raising=False)
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found if name == "nvidia" else None)
    return tmp_path


def install(packages, folder: str) -> str:
    place = packages / folder
    place.mkdir(parents=True)
    (place / "libnvrtc.so.13").touch()
    return str(place)


def test_wheels_of_cuda_12_and_13_are_found_the_newest_first(packages):
    assert toolchain.nvrtc() is None
    (packages / "cu13" / "lib").mkdir(parents=True)  # of other wheels than NVRTC's
    assert toolchain.nvrtc() is None
    old = install(packages, "cuda_nvrtc/lib")
    assert toolchain.nvrtc() == old
    new = install(packages, "cu14/lib")
    assert toolchain.nvrtc() == new


def test_compiler_that_was_named_is_left_to_the_library(packages, monkeypatch):
    install(packages, "cuda_nvrtc/lib")
    monkeypatch.setenv("LUTSMITH_NVRTC", "/elsewhere")
    assert toolchain.nvrtc() is None


def test_environment_without_such_wheels_leaves_it_to_the_library(packages, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert toolchain.nvrtc() is None
