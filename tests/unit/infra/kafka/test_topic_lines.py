"""Lines to records: what is sent, what is refused, and how lines are read."""

from __future__ import annotations

import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.infra.kafka.lines import LineParser, Outgoing, parse_timestamp, read_lines
from weir.schemas import examples
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.topic import MAX_RECORD, Topic
from weir.schemas.topics import COMMUNICATIONS, RELATIONS, by_name

WRITABLE = [by_name(name) for name in examples.names() if by_name(name).owner == "producers"]


@pytest.mark.parametrize("topic", WRITABLE, ids=lambda topic: topic.name)
def test_a_good_example_is_sent_as_it_was_written(topic: Topic) -> None:
    for line in examples.load(topic.name).records():
        records = LineParser(topic).records(line)
        assert records
        assert all(record.value in line for record in records)


@pytest.mark.parametrize("topic", WRITABLE, ids=lambda topic: topic.name)
def test_a_bad_example_is_refused_for_its_reason(topic: Topic) -> None:
    for bad in examples.load(topic.name).bad:
        with pytest.raises(PoisonError) as caught:
            LineParser(topic).records(bad.record())
        assert caught.value.reason == bad.reason


def test_a_list_of_relations_becomes_one_record_per_child() -> None:
    line = b'[{"parent":"p","child":"c"}, {"parent":"q","child":"d"}]'
    assert LineParser(RELATIONS).records(line) == [
        Outgoing(b'{"parent":"p","child":"c"}', b"c"),
        Outgoing(b'{"parent":"q","child":"d"}', b"d"),
    ]


def test_a_list_of_communications_stays_one_record() -> None:
    line = b'[{"source":"a","destination":"b"}, {"source":"b","destination":"a"}]'
    assert LineParser(COMMUNICATIONS, key="k", timestamp=5).records(line) == [Outgoing(line, b"k", 5)]


def test_one_bad_element_refuses_the_whole_line_and_is_named() -> None:
    with pytest.raises(PoisonError, match="element 1: Object missing required field `child`"):
        LineParser(RELATIONS).records(b'[{"parent":"p","child":"c"}, {"parent":"q"}]')


def test_a_record_larger_than_the_topic_takes_is_refused() -> None:
    line = b'{"source":"a","destination":"b","path":"' + b"x" * MAX_RECORD + b'"}'
    with pytest.raises(PoisonError, match="the topic takes 1,048,576") as caught:
        LineParser(COMMUNICATIONS).records(line)
    assert caught.value.reason == Reason.TOO_LARGE


def test_a_long_list_of_relations_is_no_large_record() -> None:
    line = b"[" + b",".join(b'{"parent":"p","child":"%d"}' % i for i in range(100_000)) + b"]"
    assert len(line) > 2 * MAX_RECORD
    assert len(LineParser(RELATIONS).records(line)) == 100_000


def test_an_envelope_brings_its_own_time_and_key() -> None:
    parser = LineParser(COMMUNICATIONS, key="default", timestamp=7, envelope=True)
    value = b'{"source":"a", "destination":"b"}'
    whole = b'{"timestamp":"1970-01-01T00:00:01Z","key":"k","offset":9,"value":' + value + b"}"
    assert parser.records(whole) == [Outgoing(value, b"k", 1000)]
    assert parser.records(b'{"timestamp":1000,"value":' + value + b"}") == [Outgoing(value, b"default", 1000)]
    assert parser.records(b'{"value":' + value + b"}") == [Outgoing(value, b"default", 7)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"source":"a","destination":"b"}', Reason.INVALID),
        (b'{"value":{"source":"a"}}', Reason.INVALID),
        (b'{"timestamp":"yesterday","value":{"source":"a","destination":"b"}}', Reason.TIMESTAMP),
        (b'{"timestamp":-5,"value":{"source":"a","destination":"b"}}', Reason.TIMESTAMP),
        (b'{"timestamp":1e400,"value":{"source":"a","destination":"b"}}', Reason.INVALID),
        (b'{"value":', Reason.NOT_JSON),
        (b"[" * 100_000, Reason.INVALID),
    ],
)
def test_a_bad_envelope_is_refused(line: bytes, reason: Reason) -> None:
    with pytest.raises(PoisonError) as caught:
        LineParser(COMMUNICATIONS, envelope=True).records(line)
    assert caught.value.reason == reason


@given(st.binary(), st.booleans())
def test_any_line_is_records_or_poison(line: bytes, envelope: bool) -> None:
    for topic in WRITABLE:
        with contextlib.suppress(PoisonError):
            assert LineParser(topic, envelope=envelope).records(line)


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00Z", "1769860800000"])
def test_a_time_is_written_in_either_form(text: str) -> None:
    assert parse_timestamp(text) == 1_769_860_800_000


@pytest.mark.parametrize("text", ["0", "-1", "1969-12-31T23:59:59Z", "now", "", "²", "9" * 30, "1.5"])
def test_a_time_that_kafka_cannot_carry_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_timestamp(text)


def test_blank_lines_are_skipped_and_still_counted_in_the_numbers() -> None:
    found = list(read_lines(io.BytesIO(b"\xef\xbb\xbfa\n\n  \r\nb\r\nc")))
    assert [(number, line) for number, line, _ in found] == [(1, b"a"), (4, b"b"), (5, b"c")]


def test_a_line_past_the_limit_is_told_and_the_next_one_is_read() -> None:
    found = list(read_lines(io.BytesIO(b"x" * 1000 + b"\n1234\n" + b"y" * 5), limit=4))
    assert [number for number, _, _ in found] == [1, 2, 3]
    assert isinstance(found[0][1], PoisonError)
    assert "the line has 1,001 bytes, 4 are read" in str(found[0][1])
    assert found[1][1] == b"1234"
    assert isinstance(found[2][1], PoisonError)


@given(st.binary(), st.integers(1, 10))
def test_lines_are_read_as_they_would_be_split(data: bytes, limit: int) -> None:
    first, *rest = data.split(b"\n")
    texts = [first.removeprefix(b"\xef\xbb\xbf"), *rest]  # a byte order mark is not part of the first line
    expected = [
        (number, text.strip(b" \t\r\n") if len(line) <= limit else None)
        for number, (line, text) in enumerate(zip([first, *rest], texts, strict=True), 1)
        if len(line) > limit or text.strip(b" \t\r\n")
    ]
    found = list(read_lines(io.BytesIO(data), limit))
    assert [(number, None if isinstance(line, PoisonError) else line) for number, line, _ in found] == expected
