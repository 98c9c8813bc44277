"""The faults of both runs of the system test. Pure: the same each time."""

from __future__ import annotations

from dataclasses import dataclass

from chaos import plan as plans
from chaos.plan import Kind, Plan

#: How long a worker is paused where nothing but pauses happens, in seconds: all past its session (6 s), some past the
#: timeout of its transaction (10 s). Only pauses show whether a zombie is fenced.
PAUSES = (8.0, 14.0)


@dataclass(frozen=True)
class Trial:
    """One run: its plan, and where the jobs keep their state."""

    name: str
    plan: Plan
    store: str


def trials(events: int = 100_000) -> list[Trial]:
    """Both runs, with so many records each: everything that can go wrong mixed, and long pauses alone."""
    mixed = {
        Kind.KILL: 6, Kind.KILL_ALL: 2, Kind.CRASH: 6, Kind.PAUSE: 4, Kind.START: 1, Kind.STOP: 2,
        Kind.RESTART_BROKER: 2,
    }  # fmt: skip
    pauses = {Kind.PAUSE: 14, Kind.CRASH: 2}
    return [
        Trial("mixed", plans.make(1, mixed, events, 0.0, waits=(2.0, 6.0), workers=(2, 2), paced=True), "rocksdb"),
        Trial(
            "pauses",
            plans.make(2, pauses, events, 0.0, waits=(3.0, 7.0), workers=(2, 2), pauses=PAUSES, paced=True),
            "memory",
        ),
    ]
