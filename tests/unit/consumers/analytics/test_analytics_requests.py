"""The requests of `GET /analytics`: formats, days, page positions; and pages put together from two sources."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.consumers.analytics.events import EventRow, Part, page
from weir.consumers.analytics.requests import (
    Format,
    day_cursor,
    event_cursor,
    parse_daily,
    parse_events,
    parse_summary,
    tenant_of,
)
from weir.consumers.analytics.rows import Scope
from weir.infra.http.parameters import BadRequestError

TODAY = dt.date(2026, 1, 31)
moments = st.datetimes(timezones=st.just(dt.UTC))
numbers = st.integers(1, 2**63 - 1)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Format.JSON),
        ("*/*", Format.JSON),
        ("text/*", Format.CSV),
        ("text/csv;q=0.5, application/json;q=0.1", Format.CSV),
        ("application/json;q=0, */*", Format.CSV),
        ("application/*;q=0.2, application/vnd.apache.parquet", Format.PARQUET),
        ("TEXT/CSV", Format.CSV),
    ],
    ids=str,
)
def test_the_header_accept_is_weighed(accept: str, form: Format) -> None:
    assert parse_daily([], accept, TODAY)[1] is form
    assert parse_daily([("format", "json")], accept, TODAY)[1] is Format.JSON


@pytest.mark.parametrize("accept", ["image/png", "application/json;q=0", "text/csv;q=2"])
def test_a_header_accept_that_allows_nothing_is_refused(accept: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        parse_summary([], accept, TODAY)
    assert refused.value.field == "Accept"


def test_without_a_range_it_is_thirty_days_with_today() -> None:
    wanted, _ = parse_daily([], "", TODAY)
    assert (wanted.start, wanted.end) == (dt.date(2026, 1, 2), dt.date(2026, 2, 1))


@given(st.dates(), numbers)
def test_a_place_among_days_is_read_as_it_was_given(day: dt.date, tenant: int) -> None:
    assert parse_daily([("after", day_cursor((day, tenant)))], "", TODAY)[0].after == (day, tenant)


@given(moments, numbers)
def test_a_place_among_events_is_read_as_it_was_given(moment: dt.datetime, number: int) -> None:
    wanted, _ = parse_events([("after", event_cursor((moment, number)))], "", 1_769_860_800_000)
    assert wanted.after == (moment, number)


@given(st.text(max_size=25))
def test_whatever_names_a_tenant_is_one_or_is_refused(text: str) -> None:
    try:
        tenant = tenant_of(text)
    except BadRequestError:
        return
    assert Scope.of(tenant).text == str(int(text))


@pytest.mark.parametrize("tenant", [0, -1, 2**63, True, "7", 1.0])
def test_a_scope_is_of_tenants_numbers(tenant: Any) -> None:
    with pytest.raises(ValueError, match="not a tenant's number"):
        Scope.of(tenant)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.booleans()), max_size=40),
    st.integers(1, 10),
    st.integers(1, 12),
)
def test_pages_of_two_sources_have_every_row_once_and_in_order(
    made: list[tuple[int, bool, bool]], limit: int, fitting: int
) -> None:
    """`fitting`: so many rows at most the first source gives at once, as it does where payloads are large."""
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    rows = sorted((start + dt.timedelta(seconds=at), number) for number, (at, _, _) in enumerate(made))
    sides = {number: (one, other or not one) for number, (_, one, other) in enumerate(made)}

    def part(side: int, after: tuple[dt.datetime, int] | None, most: int) -> Part:
        found: list[EventRow] = [
            (7, moment, number, 1.0, "a", None)
            for moment, number in rows
            if sides[number][side] and (after is None or (moment, number) > after)
        ]
        return Part(found[:most], len(found) >= most)

    found: list[tuple[dt.datetime, int]] = []
    after = None
    while True:
        answer = page([part(0, after, min(fitting, limit + 1)), part(1, after, limit + 1)], limit)
        assert len(answer.rows) <= limit
        found += [(event.created_at, event.id) for event in answer.rows]
        if answer.next is None:
            break
        assert answer.rows
        after = answer.next
    assert found == rows
