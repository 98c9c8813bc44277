"""Many times at once are what each would be alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.consumers.analytics.timestamps import NEVER, moments
from weir.schemas.times import timestamp_ms

Time = str | int | float

usual = st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z")
odd = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=30),
    st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z"),
    st.text(alphabet="0123456789-T:.Z+ \0é٣", min_size=24, max_size=24),
    st.sampled_from([
        "0000-01-01T00:00:00.000Z", "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z", "2026-02-29T00:00:00.000Z",
        "2024-02-29T00:00:00.000Z", "2026-01-31T23:59:60.000Z", "2026-01-31T24:00:00.000Z", "2026-01-31T11:59:59.000z",
        "2026-01-31T11:59:59.000\0", "1970-01-01T00:00:00.000Z", "2026-01-31T11:5٣:59.000Z",
    ]),
)  # fmt: skip


def alone(time: Time) -> int:
    try:
        return timestamp_ms(time)
    except ValueError:
        return NEVER


@given(st.lists(usual | odd, max_size=20))
def test_many_at_once_are_what_each_is_alone(times: list[Time]) -> None:
    assert moments(times).tolist() == [alone(time) for time in times]


@given(st.lists(usual))
def test_usual_ones_are_what_each_is_alone(times: list[Time]) -> None:
    assert moments(times).tolist() == [alone(time) for time in times]


@pytest.mark.parametrize("time", ["2026-02-30T00:00:00.000Z", "0000-01-01T00:00:00.000Z", "noon"])
def test_what_is_no_time_leaves_its_neighbours_theirs(time: str) -> None:
    there = "2026-01-31T12:00:00.000Z"
    assert moments([there, time, there]).tolist() == [timestamp_ms(there), NEVER, timestamp_ms(there)]
