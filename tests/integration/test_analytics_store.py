"""The sink of tenants' events: each is a row once, and the days are what the rows come to."""

from __future__ import annotations

import random

from command import started
from infra.config import Config
from link_store_probe import until
from tenant_probe import RUN, TenantProbe, some_events


def test_every_event_is_stored_once_and_the_days_are_what_they_come_to(environ: dict[str, str], config: Config) -> None:
    probe = TenantProbe(config, range(1, 6))
    events = some_events(random.Random(1), 3000, 5)
    probe.write(events)
    with started(environ, *RUN):
        until(lambda: probe.count() == 3000)
        probe.check(events)
        before = probe.versions()
        late = some_events(random.Random(2), 500, 5, days=1)
        probe.write(late)
        until(lambda: probe.count() == 3500)
        probe.check([*events, *late])
    assert {day for day, version in probe.versions().items() if version > before.get(day, 0)} == {
        "2026-01-31", "2026-02-01"
    }  # fmt: skip
