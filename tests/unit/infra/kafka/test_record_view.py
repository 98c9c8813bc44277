"""How a record is shown: exactly for programs, harmlessly for people."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.infra.kafka.record_view import RecordView, printable

records = st.builds(
    RecordView,
    topic=st.just("relations"),
    partition=st.integers(0, 100),
    offset=st.integers(0, 2**63 - 1),
    timestamp=st.none() | st.integers(-(2**63), 2**63 - 1),
    key=st.none() | st.binary(),
    value=st.none() | st.binary() | st.text().map(str.encode),
    headers=st.lists(st.tuples(st.text(), st.none() | st.binary())),
)


def shown(value: bytes | None) -> object:
    """The value of a record of that value, as a program reads it."""
    return json.loads(RecordView("t", 0, 1, 60_000, b"k", value).to_json())["value"]


@given(records)
def test_any_record_is_one_line_of_json_with_its_place(record: RecordView) -> None:
    line = record.to_json()
    assert b"\n" not in line
    read = json.loads(line)
    assert list(read) == ["topic", "partition", "offset", "timestamp", "key", "value", "headers"]
    assert (read["partition"], read["offset"]) == (record.partition, record.offset)


@given(records)
def test_any_record_is_one_printable_line_for_people(record: RecordView) -> None:
    assert "".join(record.to_line()).isprintable()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'{"a": [1, 2.50, null]}', {"a": [1, 2.5, None]}),
        (b'{\n  "a": 1\r\n}\n', {"a": 1}),
        (b'"text"', "text"),
        (b"text", "text"),
        (b"", ""),
        (None, None),
        (b"\xff\x00", {"base64": "/wA="}),
        (b"NaN", "NaN"),
        (b"[" * 5000 + b"]" * 5000, "[" * 5000 + "]" * 5000),
    ],
)
def test_a_value_is_json_where_it_is_json_else_text_else_base64(value: bytes | None, expected: object) -> None:
    assert shown(value) == expected


def test_a_number_keeps_every_digit() -> None:
    assert shown(b"123456789012345678901234567890") == 123456789012345678901234567890


def test_a_line_for_people_has_time_place_key_and_value() -> None:
    record = RecordView("relations", 2, 41, 60_001, "größe".encode(), b'{"a":1}')
    assert record.to_line() == ("1970-01-01T00:01:00.001Z 2@41", 'größe {"a":1}')


def test_what_is_not_there_is_said_not_to_be() -> None:
    assert RecordView("relations", 2, 41, None, None, None).to_line() == ("no time 2@41", "(no value)")


def test_a_terminal_is_told_nothing_by_a_value() -> None:
    assert printable(b"\x1b[31mred\x07") == r"\x1b[31mred\x07"
