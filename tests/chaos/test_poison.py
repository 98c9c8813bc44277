"""Bad records anywhere in a slice of thousands: each goes to the dead letters by itself, and the others count."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.infra.config import Config
from weir.schemas.dead_letters import from_headers
from weir.streams.engine.windowed.combine import CHUNK
from weir.streams.jobs import links
from weir.streams.testing import Harness

BASE = 1_750_000_020_000
GOOD = b'{"source":"cart","destination":"pay"}'
EVENTS = 3 * CHUNK + 5
poison = st.sampled_from(
    [b"nope", b"", b"[]", None, b'{"source":1}', b'{"source":"cart","destination":"nobody"}', b"\xff"]
)


def counted(bad: dict[int, bytes | None], crash_at: int | None = None) -> Harness:
    h = Harness(links.job(Config()), 1, now_ms=BASE + 60_000)
    h.send("relations", [{"parent": "shop", "child": "cart"}, {"parent": "bank", "child": "pay"}], timestamp=BASE)
    for offset in range(EVENTS):
        h.send("communications", bad.get(offset, GOOD), BASE)
    if crash_at is not None:
        h.process("communications", 0, crash_at)
        h.crash()
    h.run()
    return h


def check(h: Harness, bad: dict[int, bytes | None]) -> None:
    dead = h.records("dead-letters")
    assert [from_headers(record.headers()).offset for record in dead] == sorted(bad)
    assert [record.value() for record in dead] == [bad[offset] or b"" for offset in sorted(bad)]
    assert (h.routed.counted, h.routed.dead) == (EVENTS - len(bad), len(bad))
    assert [count["count"] for count in h.latest("link-counts").values()] == [EVENTS - len(bad)]


@pytest.mark.parametrize("offset", [0, 1, CHUNK - 1, CHUNK, CHUNK + CHUNK // 2, EVENTS - 1])
def test_one_bad_record_costs_no_other(offset: int) -> None:
    bad: dict[int, bytes | None] = {offset: b"nope"}
    check(counted(bad), bad)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.integers(0, EVENTS - 1), poison, max_size=40), st.integers(1, EVENTS))
def test_many_bad_records_each_go_once_also_when_the_worker_crashes_before_it_commits(
    bad: dict[int, bytes | None], crash_at: int
) -> None:
    check(counted(bad, crash_at), bad)
