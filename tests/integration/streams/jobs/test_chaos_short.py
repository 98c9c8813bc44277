"""A short fault run, one fault of each kind; `make chaos` plays the long ones, some of them with latency."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos import plan as plans
from chaos.cases import Links
from chaos.play import stage

SEED = 4


@pytest.mark.timeout(600)
def test_one_fault_of_each_kind_costs_no_count(tmp_path: Path) -> None:
    plan = plans.make(SEED, plans.SHORT, events=30_000, broker_pause=5.0, waits=(0.3, 0.8))
    print(f"seed {SEED}: {[fault.kind.name for fault in plan.faults]}")
    with stage(plan, tmp_path, Links) as run:
        run.play()
