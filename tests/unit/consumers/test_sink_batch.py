"""Records to rows: the latest per key, every offset accounted for, and what is refused."""

from __future__ import annotations

import datetime as dt
import gc
import weakref

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.engine.messages import message
from weir.consumers.links.tables import LINK_COUNTS_TABLE, LINK_TABLES, LINK_WINDOWS_TABLE
from weir.consumers.sinks.batch import Batch, Batcher
from weir.consumers.sinks.source import within
from weir.consumers.sinks.table import Table
from weir.schemas import examples
from weir.schemas.dead_letters import Reason
from weir.schemas.links import LinkCount
from weir.schemas.topics import DEAD_LETTERS
from weir.schemas.windows import Window, WindowClosed

NOON = dt.datetime(2026, 1, 31, 12, 0, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
WINDOW = Window("2026-01-31T12:00:00Z", "2026-01-31T12:01:00Z")


def batch_of(*records: tuple[str, int, int, bytes | None]) -> Batch:
    batcher = Batcher("link-store", {table.topic.name: table for table in LINK_TABLES})
    return batcher.batch(message(*record, key=b"key", timestamp=1234) for record in records)


def count(source: str, destination: str, number: int, window: Window = WINDOW) -> bytes:
    return msgspec.json.encode(LinkCount(window, source, destination, number, True))


def test_a_count_becomes_a_row_with_its_times_and_its_partition() -> None:
    batch = batch_of(("link-counts", 3, 7, count("shop", "billing", 5)))
    assert batch.rows == {
        "link_counts": [(NOON, NOON + MINUTE, "shop", "billing", 5, True, 3)],
    }
    assert batch.next_offsets == {("link-counts", 3): 8}
    assert batch.refused == []


def test_a_closing_becomes_a_row_of_its_own_table() -> None:
    batch = batch_of(("link-windows", 0, 0, msgspec.json.encode(WindowClosed(WINDOW, 2, 4, 9))))
    assert batch.rows == {"link_windows": [(NOON, NOON + MINUTE, 2, 4, 9)]}


def test_of_two_records_with_one_key_the_later_stands_however_its_time_is_written() -> None:
    elsewhere = Window("2026-01-31T13:00:00+01:00", "2026-01-31T13:01:00+01:00")
    batch = batch_of(
        ("link-counts", 0, 1, count("a", "b", 1)),
        ("link-counts", 0, 2, count("a", "b", 2, elsewhere)),
    )
    assert [row[4] for row in LINK_COUNTS_TABLE.standing(batch.rows["link_counts"])] == [2]


@pytest.mark.parametrize(("name", "table"), [("link-counts", LINK_COUNTS_TABLE), ("link-windows", LINK_WINDOWS_TABLE)])
def test_good_examples_are_stored_and_bad_ones_refused_with_their_bytes(name: str, table: Table) -> None:
    found = examples.load(name)
    good, bad = found.records(), [(bad.record(), bad.reason) for bad in found.bad]
    batch = batch_of(*((name, 1, offset, value) for offset, value in enumerate([*good, *(raw for raw, _ in bad)])))
    assert batch.rows[table.name]
    assert [(refused.raw, refused.origin.reason) for refused in batch.refused] == bad
    assert [refused.origin.offset for refused in batch.refused] == [len(good) + n for n in range(len(bad))]
    assert batch.next_offsets == {(name, 1): len(good) + len(bad)}


def test_a_bad_element_of_an_array_is_refused_alone_and_says_where_it_stood() -> None:
    value = b"[" + count("a", "b", 1) + b',{"count": 1},' + count("c", "d", 1) + b"]"
    batch = batch_of(("link-counts", 0, 0, value))
    assert len(batch.rows["link_counts"]) == 2
    [refused] = batch.refused
    assert refused.raw == b'{"count": 1}'
    assert refused.key == b"key"
    assert refused.origin.element == 1
    assert (refused.origin.source, refused.origin.partition, refused.origin.job) == ("link-counts", 0, "link-store")
    assert refused.origin.timestamp == 1234


def test_a_tombstone_is_refused_and_its_offset_passed() -> None:
    batch = batch_of(("link-counts", 0, 41, None))
    assert [refused.origin.reason for refused in batch.refused] == [Reason.EMPTY]
    assert batch.next_offsets == {("link-counts", 0): 42}


def test_ids_are_taken_as_they_are_whatever_they_look_like() -> None:
    hostile = "'; DROP TABLE link_counts; --"
    batch = batch_of(("link-counts", 0, 0, count(hostile, "\\N\\t{}%s", 1)))
    assert [row[2:4] for row in batch.rows["link_counts"]] == [(hostile, "\\N\\t{}%s")]


def test_a_topic_without_a_type_cannot_be_stored() -> None:
    table = Table(DEAD_LETTERS, "dead_letters", {"a": "text"}, ("a",), lambda element, partition: ())
    with pytest.raises(ValueError, match="dead-letters has no value type"):
        Batcher("x", {"dead-letters": table})


@given(st.lists(st.integers(0, 9)), st.integers(1, 5), st.integers(0, 20))
def test_a_run_is_what_there_is_room_for_and_one_at_least(lengths: list[int], most: int, size: int) -> None:
    values = [bytes(length) for length in lengths]
    taken = within(values, most, size)
    assert taken <= most
    assert sum(lengths[:taken]) <= size or taken == 1
    if 0 < taken < min(most, len(values)):
        assert sum(lengths[: taken + 1]) > size


@pytest.mark.parametrize("value", [b"poison", b"[1, 2]", b"", b"[]"])
def test_what_is_refused_does_not_hold_what_it_came_with(value: bytes) -> None:
    gc.collect()
    gc.disable()
    try:
        batch = batch_of(("link-counts", 0, 1, count("a", "b", 1)), ("link-counts", 0, 2, value))
        assert batch.refused
        part = weakref.ref(batch.parts["link_counts"])
        batch.parts.clear()
        assert part() is None
    finally:
        gc.enable()
