"""Kafka's own verifier finds nothing wrong with what the jobs wrote under faults, and a record too many."""

from __future__ import annotations

from pathlib import Path

import pytest

from eos.plans import Trial, trials
from eos.run import judge


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("trial", trials(), ids=lambda trial: trial.name)
def test_kafkas_exactly_once_verifier_passes_whatever_fails(trial: Trial, tmp_path: Path) -> None:
    print(judge(trial, tmp_path))
