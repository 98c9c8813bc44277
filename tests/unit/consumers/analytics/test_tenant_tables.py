"""Tenants' events as rows: the short way and the exact one agree, and a row's bytes are what Postgres reads."""

from __future__ import annotations

import json
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support.engine.messages import message
from weir.consumers.analytics.day_rollups import TENANT_DAILY
from weir.consumers.analytics.plain_rows import PlainEvents
from weir.consumers.analytics.tables import encoded, event_row, tenant_tables
from weir.consumers.sinks.batch import Batch, Batcher
from weir.consumers.sinks.table import Conflict, Rollup, Table
from weir.schemas import examples
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.tenants import TenantEvent, has_wide_number
from weir.schemas.times import from_rfc3339
from weir.schemas.topics import LINK_COUNTS, TENANT_EVENTS

NOW = from_rfc3339("2026-01-31T12:00:00Z")
DAY = 86_400_000
LIMITS = (3650 * DAY, 3_600_000)

times = st.one_of(
    st.integers(-5, 2 * NOW),
    st.floats(allow_nan=False, allow_infinity=False),
    st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z"),
    st.sampled_from([
        "2026-01-31T11:59:59.999Z", "2026-01-31T11:59:60.000Z", "2026-01-31T11:59:99.000Z", "2026-01-31 11:59:59.5Z",
        "2026-01-31t11:59:59.500z", "2026-01-31T12:59:59+01:00", "2026-01-31T11:59:5٣.000Z", "2026-01-31T11:59:59,000Z",
        "2026-02-30T11:59:59.000Z", "1769860800", "noon", "", "2026-01-31T11:59:59.00 Z", "2026-01-31T11:5a:59.000Z",
    ]),
)  # fmt: skip
values = st.fixed_dictionaries(
    {
        "tenant_id": st.one_of(st.integers(-1, 9), st.sampled_from([2**63 - 1, 2**63, 2**64])),
        "created_at": times,
        "event_type": st.text(max_size=3),
        "processing_time": st.one_of(st.floats(0, 2e9), st.integers(-1, 10**9), st.floats(allow_nan=False)),
    },
    optional={"payload": st.one_of(st.none(), st.dictionaries(st.text(), st.integers()), st.just([]), st.just("{"))},
)


def slowly(value: bytes) -> tuple[object, ...] | None:
    decoder = TENANT_EVENTS.decoder()
    assert decoder is not None
    [(element, _)] = list(decoder.elements(value))
    if isinstance(element, PoisonError):
        return None
    try:
        return event_row(element, 0, LIMITS, lambda: NOW)
    except PoisonError:
        return None


@given(st.lists(values.map(msgspec.json.encode) | st.sampled_from([b"", b"[", b"[{}]", b"\xff"]), max_size=8))
def test_the_short_way_gives_what_the_exact_one_gives(found: list[bytes]) -> None:
    assert PlainEvents(LIMITS, lambda: NOW).rows(found) == [slowly(value) for value in found]


@given(st.lists(st.integers(1, 50), min_size=1), st.sampled_from(["payload", "created_at", "event_type", "tenant_id"]))
def test_what_is_usual_takes_the_short_way_whatever_stands_beside_it(numbers: list[int], field: str) -> None:
    usual = {"tenant_id": 1, "created_at": "2026-01-31T11:59:59.999Z", "event_type": "login", "processing_time": 1.5}
    odd = {"payload": [], "created_at": "noon", "event_type": "\0", "tenant_id": 0}
    found = [msgspec.json.encode(usual if n > 10 else usual | {field: odd[field]}) for n in numbers]
    assert [row is not None for row in PlainEvents(LIMITS, lambda: NOW).rows(found)] == [n > 10 for n in numbers]


@pytest.mark.parametrize(
    ("payload", "wide"),
    [
        ('{"a":1e308}', False), ('{"a":1E+0308}', False), ('{"a":1e309}', True), ('{"a":[1.5e131071]}', True),
        ('{"a":-1e-308}', False), ('{"a":-5e-324}', False), ('{"a":1e-325}', True),
        ('{"a":1e-' + "0" * 5000 + "1}", False), ('{"a":1e' + "0" * 5000 + "309}", True),
        ('{"a":' + "9" * 400 + "}", False), ('{"a":' + "9" * 401 + "}", True),
        ('{"a":0.' + "1" * 400 + "}", True), ('{"a":1e' + "9" * 5000 + "}", True),
        ('{"a":1' + "0" * 200 + "e200}", True), ('{"a":1.' + "0" * 300 + "e308}", False),
        ('{"a":' + "1" * 301 + "e99}", False), ('{"a":' + "1" * 302 + "e99}", True),
        ('{"a":"1e131071","1e131071":"' + "9" * 500 + '"}', False), (r'{"a":"\\\"1e999","b":1}', False),
        (r'{"a":"\\","b":1e999}', True), (r'{"a":"x\"","b":[1,1e999]}', True), ("null", False),
    ],
    ids=range(22),
)  # fmt: skip
def test_numbers_that_are_too_long_once_written_out_are_refused_either_way(payload: str, wide: bool) -> None:
    value = f'{{"tenant_id":1,"created_at":{NOW},"event_type":"a","processing_time":1,"payload":{payload}}}'.encode()
    assert has_wide_number(payload.encode()) is wide
    batch = batch_of(value, b"[" + value + b"]")
    assert len(batch.rows["events"]) == (0 if wide else 2)
    assert [refused.origin.reason for refused in batch.refused] == ([Reason.INVALID] * 2 if wide else [])


jsons = st.recursive(
    st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(alphabet='01e+-."\\', max_size=9)
    | st.integers(-(10**410), 10**410).filter(lambda n: len(str(abs(n))) <= 400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet="1e9\"", max_size=6), inner),
    max_leaves=9,
)  # fmt: skip


@example(5e-324, "1e309")
@given(jsons, st.sampled_from(["1e309", "-1E+4000", "9" * 401, "1e-0400"]))
def test_texts_and_common_numbers_are_never_taken_for_wide_ones(value: object, wide: str) -> None:
    text = json.dumps(value)
    assert not has_wide_number(text.encode())
    assert has_wide_number(f'{{"a":{text},"b":{wide}}}'.encode())
    assert has_wide_number(f'{{"b":{wide},"a":{text}}}'.encode())


@pytest.mark.parametrize("value", [b"", b"[", b"[{}]", b"null", b"\xff", b'{"tenant_id":1}', b"[" * 100_000])
def test_what_is_no_plain_event_is_left_to_others(value: bytes) -> None:
    assert PlainEvents(LIMITS, lambda: NOW).rows([value]) == [None]


def test_good_examples_become_rows_and_bad_ones_are_refused() -> None:
    found = examples.load("tenant-events")
    good, bad = found.records(), [(bad.record(), bad.reason) for bad in found.bad]
    batch = batch_of(*good, *(raw for raw, _ in bad))
    assert len(batch.rows["events"]) == len(good)
    assert [(refused.raw, refused.origin.reason) for refused in batch.refused] == bad


def batch_of(*records: bytes) -> Batch:
    [table] = tenant_tables(*LIMITS, clock=lambda: NOW)
    return Batcher("analytics-store", {"tenant-events": table}).batch(
        message("tenant-events", 0, n, value) for n, value in enumerate(records)
    )


@pytest.mark.parametrize(
    ("created", "accepted"),
    [(NOW + 3_600_000, True), (NOW + 3_600_001, False), (NOW - 3650 * DAY, True), (NOW - 3650 * DAY - 1, False)],
    ids=["an hour ahead", "more", "ten years ago", "longer ago"],
)
def test_times_are_taken_within_limits_of_the_clock(created: int, accepted: bool) -> None:
    value = msgspec.json.encode(TenantEvent(1, created, "login", 1.0))
    batch = batch_of(value, b"[" + value + b"]")
    assert len(batch.rows["events"]) == (2 if accepted else 0)
    assert {refused.origin.reason for refused in batch.refused} == (set() if accepted else {Reason.TIMESTAMP})
    assert [refused.origin.element for refused in batch.refused] == ([] if accepted else [None, 0])


def test_a_row_in_bytes_is_five_values_with_their_lengths() -> None:
    whole, null = encoded([
        (7, 946_684_800_001, 1500, "ü", b'{"a":1}'),
        (7, 946_684_800_001, 1500, "ü", None),
    ])  # fmt: skip
    assert whole == (
        struct.pack(">hiqiqid", 5, 8, 7, 8, 1000, 8, 1.5) + b"\0\0\0\2\xc3\xbc" + b"\0\0\0\x08\x01" + b'{"a":1}'
    )
    assert null.endswith(b"\xc3\xbc\xff\xff\xff\xff")


def test_of_two_rows_with_one_key_the_rule_says_which_stands() -> None:
    def table(conflict: Conflict) -> Table:
        return Table(LINK_COUNTS, "t", {"a": "int4", "b": "int4"}, ("a",), lambda e, p: (), conflict)

    rows = [(1, 1), (2, 1), (1, 2)]
    assert sorted(table(Conflict.REPLACE).standing(rows)) == [(1, 2), (2, 1)]
    assert sorted(table(Conflict.IGNORE).standing(rows)) == [(1, 1), (2, 1)]


@pytest.mark.parametrize(
    ("key", "conflict", "rollups"),
    [((), Conflict.REPLACE, ()), (("a",), Conflict.APPEND, ()), (("a",), Conflict.REPLACE, (TENANT_DAILY,))],
    ids=["no key", "a key for nothing", "a rollup of rows that change"],
)
def test_a_declaration_that_cannot_be_is_refused(
    key: tuple[str, ...], conflict: Conflict, rollups: tuple[Rollup, ...]
) -> None:
    with pytest.raises(ValueError, match="t: "):
        Table(LINK_COUNTS, "t", {"a": "int4"}, key, lambda e, p: (), conflict, rollups)


@pytest.mark.parametrize(
    "given", [{"encode": encoded}, {"order": id}, {"encode": encoded, "order": id}], ids=["bytes", "an order", "both"]
)
def test_rows_that_may_be_replaced_are_not_made_into_bytes_or_sorted(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="t: `encode` and `order` need"):
        Table(LINK_COUNTS, "t", {"a": "int4"}, ("a",), lambda e, p: (), **given)
