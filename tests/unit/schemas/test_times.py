"""Times: what is written is read back, and what is no time is said to be none."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.schemas.times import from_rfc3339, readable, to_rfc3339

#: From the year 1 to the year 9999: all that RFC 3339 can say.
FIRST, LAST = -62_135_596_800_000, 253_402_300_799_999


@given(st.integers(FIRST, LAST))
def test_a_time_is_read_back_as_it_was_written(epoch_ms: int) -> None:
    assert from_rfc3339(to_rfc3339(epoch_ms)) == epoch_ms


@given(st.integers(FIRST, LAST), st.integers(FIRST, LAST))
def test_written_times_of_one_precision_sort_as_the_times_do(a: int, b: int) -> None:
    a, b = a // 1000 * 1000, b // 1000 * 1000
    assert (to_rfc3339(a) < to_rfc3339(b)) == (a < b)


@given(st.one_of(st.integers(max_value=FIRST - 1), st.integers(min_value=LAST + 1)))
def test_a_time_outside_the_calendar_is_a_value_error(epoch_ms: int) -> None:
    with pytest.raises(ValueError, match="calendar"):
        to_rfc3339(epoch_ms)
    assert readable(epoch_ms) == str(epoch_ms)


@pytest.mark.parametrize("text", ["2026-01-31T13:00:00.5+01:00", "2026-01-31T12:00:00.500Z", "2026-01-31t12:00:00.5z"])
def test_one_moment_can_be_written_in_several_ways(text: str) -> None:
    assert from_rfc3339(text) == 1_769_860_800_500


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "2026-01-31", "2026-01-31T12:00:00", "2026-02-30T00:00:00Z", "12:00Z", "2026-01-31T12:00Z",
        "20260131T120000Z", "2026-W05-6T12:00:00Z", "2026-01-31X12:00:00Z", "2026-01-31T12:00:00Z\0",
    ],
)  # fmt: skip
def test_what_is_no_moment_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_rfc3339(text)


@pytest.mark.parametrize("text", ["noon", "2026-02-01t12:00:00", "2026-02-30t00:00:00z", "2026-02-01t12:00z"])
def test_an_error_quotes_what_was_given(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))) as caught:
        from_rfc3339(text)
    assert text.upper() not in str(caught.value)


@given(st.text())
def test_any_text_is_a_moment_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert FIRST - 86_400_000 <= from_rfc3339(text) <= LAST + 86_400_000
