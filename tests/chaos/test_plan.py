"""The plans of the fault runs: the same from the same seed, and what each run promises."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos import plan as plans
from chaos.plan import ENDINGS, Kind
from chaos.run import EVENTS, long, seeds

any_seed = st.integers(0, 1 << 32)


@given(any_seed)
def test_a_seed_always_gives_the_same_plan(seed: int) -> None:
    assert long(seed) == long(seed)


@given(any_seed)
def test_a_long_run_has_all_its_faults_and_all_its_events(seed: int) -> None:
    plan = long(seed)
    kinds = [fault.kind for fault in plan.faults]
    assert Counter(kind for kind in kinds if kind not in ENDINGS) == plans.LONG
    assert len(plan.faults) >= 20
    assert plan.events == EVENTS["links"]
    assert all(fault.events > 0 for fault in plan.faults)


@given(any_seed)
def test_one_to_three_workers_are_wanted_at_any_moment(seed: int) -> None:
    plan = long(seed)
    steps = [{Kind.START: 1, Kind.STOP: -1}.get(fault.kind, 0) for fault in plan.faults]
    assert all(1 <= wanted <= plans.MOST for wanted in accumulate(steps, initial=plan.workers))


@given(any_seed)
def test_a_paused_worker_is_past_its_session_and_a_paused_broker_away_for_half_a_minute(seed: int) -> None:
    lengths = {(fault.kind, fault.seconds) for fault in long(seed).faults if fault.seconds}
    assert all(seconds == 30 for kind, seconds in lengths if kind is Kind.PAUSE_BROKER)
    assert all(seconds > 6 for kind, seconds in lengths if kind is Kind.PAUSE)
    assert {kind for kind, _ in lengths} == {
        Kind.PAUSE, Kind.PAUSE_BROKER, Kind.OPEN_TRANSACTION, Kind.NEVER_READ,
    }  # fmt: skip


@given(any_seed)
def test_nothing_follows_what_a_job_does_not_go_on_after(seed: int) -> None:
    plan = long(seed)
    assert all(fault.kind not in ENDINGS for fault in plan.faults[:-1])
    assert plan.ends_refused == (plan.faults[-1].kind in ENDINGS) == (seed % 2 == 1)


def test_four_seeds_in_a_row_end_in_each_way() -> None:
    last = [long(seed).faults[-1].kind for seed in range(8, 12)]
    assert [kind if kind in ENDINGS else None for kind in last] == [None, Kind.GROW, None, Kind.MAKE_ANEW]
    assert not set(plans.SHORT) & set(ENDINGS)


def test_the_plans_of_twenty_seeds_differ_and_some_are_slow() -> None:
    made = [long(seed) for seed in range(1, 21)]
    assert len({tuple(fault.kind for fault in plan.faults) for plan in made}) == 20
    assert {plan.workers for plan in made} == {1, 2, 3}
    assert [plan.seed for plan in made if plan.latency] == [3, 6, 9, 12, 15, 18]


@pytest.mark.parametrize(("text", "expected"), [("4", [4]), ("1-3", [1, 2, 3]), ("7,1-2", [7, 1, 2])])
def test_seeds_are_written_as_ranges(text: str, expected: list[int]) -> None:
    assert seeds(text) == expected
