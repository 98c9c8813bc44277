"""The parameters of GET /links, and the field and reason of each refusal."""

from __future__ import annotations

import pytest

from weir.consumers.links.requests import DEFAULT_LIMIT, HOUR, MAX_LIMIT, Range, parse, time_range
from weir.infra.http.parameters import BadRequestError
from weir.schemas.times import from_rfc3339

NOW = from_rfc3339("2026-01-31T12:00:00Z")


def test_without_parameters_it_is_the_last_hour() -> None:
    assert parse([], NOW) == (Range(NOW - HOUR, NOW), DEFAULT_LIMIT)


def test_the_default_start_is_an_hour_before_the_end() -> None:
    assert time_range(None, "2020-01-01T01:00:00Z", NOW) == Range(
        from_rfc3339("2020-01-01T00:00:00Z"), from_rfc3339("2020-01-01T01:00:00Z")
    )


def test_offsets_from_utc_are_understood() -> None:
    assert time_range("2026-01-31T12:00:00+01:00", None, NOW) == Range(NOW - HOUR, NOW)


def test_the_first_hour_of_the_calendar_has_no_hour_before_it() -> None:
    assert time_range(None, "0001-01-01T00:30:00Z", NOW).start == from_rfc3339("0001-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("query", "field", "reason"),
    [
        ([("from", "yesterday")], "from", "'yesterday' is not an RFC 3339 time"),
        ([("to", "2026-01-31T12:00:00")], "to", "has no offset from UTC"),
        ([("to", "2026-01-31T12:00:00 01:00")], "to", "written `%2B`"),
        ([("from", "")], "from", "is not an RFC 3339 time"),
        ([("from", "0001-01-01T00:00:00+23:00")], "from", "outside the calendar"),
        ([("from", "2027-01-01T00:00:00Z")], "from", "is after `to`"),
        ([("limit", "0")], "limit", "'0' is not a whole number from 1"),
        ([("limit", str(MAX_LIMIT + 1))], "limit", "is not a whole number"),
        ([("limit", "9" * 5000)], "limit", "is not a whole number"),
        ([("limit", "²")], "limit", "is not a whole number"),
        ([("limit", "1; DROP TABLE link_counts")], "limit", "is not a whole number"),
        ([("form", "2026-01-31T12:00:00Z")], "form", "unknown query parameter; allowed: "),
        ([("limit", "1"), ("limit", "2")], "limit", "more than once"),
    ],
)
def test_a_bad_parameter_is_named_with_the_reason(query: list[tuple[str, str]], field: str, reason: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        parse(query, NOW)
    assert caught.value.field == field
    assert reason in caught.value.reason
