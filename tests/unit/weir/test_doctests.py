"""Every example in a docstring does what it says."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("schemas", "producers", "streams", "consumers", "infra", "cli", "services", "clients", "demo")
    for path in (ROOT / "weir" / package).rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), raise_on_error=False, verbose=False)
    assert result.attempted > 0
    assert result.failed == 0
