"""Topic `broadcast`: channels, positions and the messages around it."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.schemas.broadcast import (
    Ack,
    Hello,
    Refused,
    check_channel,
    envelope,
    format_position,
    parse_position,
    partition_of,
)
from weir.schemas.topics import BROADCAST, TOPICS
from weir.schemas.windows import MAX_COUNT, MAX_PARTITIONS

POSITIONS = st.dictionaries(st.integers(0, MAX_PARTITIONS - 1), st.integers(0, MAX_COUNT), min_size=1, max_size=9)


@given(POSITIONS)
def test_a_position_is_read_as_it_was_written(position: dict[int, int]) -> None:
    assert parse_position(format_position(position)) == position


@given(POSITIONS)
def test_a_position_has_one_form(position: dict[int, int]) -> None:
    assert format_position(reversed(position.items())) == format_position(position)


@pytest.mark.parametrize(
    "text",
    ["", "0", "0-", "-1", "0-1.", ".0-1", "0-1.0-2", "0-1,1-2", "a-1", "0-1 ", "0--1", "65536-0",
     "0-9223372036854775808", "0-99999999999999999999", "٣-1", "0-1\n"],
)  # fmt: skip
def test_what_is_no_position_is_refused_with_the_fields_name(text: str) -> None:
    with pytest.raises(ValueError, match="`after`"):
        parse_position(text)


@given(st.text())
def test_any_text_is_a_position_or_a_value_error(text: str) -> None:
    try:
        position = parse_position(text)
    except ValueError:
        return
    assert parse_position(format_position(position)) == position


@given(st.text(min_size=1, max_size=128), st.integers(1, 128))
def test_a_channel_is_one_partition(channel: str, partitions: int) -> None:
    try:
        encodable = bool(channel.encode())
    except UnicodeEncodeError:
        encodable = False
    if encodable:
        assert 0 <= partition_of(channel, partitions) < partitions
        assert partition_of(channel, partitions) == partition_of(channel, partitions)


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb", "a\x00", "\ud800"])
def test_a_channel_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="`channel`"):
        check_channel(name)


@given(st.text(max_size=40).filter(lambda t: not any("\ud800" <= c <= "\udfff" for c in t)))
def test_an_envelope_of_a_text_holds_the_text(text: str) -> None:
    decoded = json.loads(envelope("0-1", "news", text.encode(), binary=False))
    assert decoded == {"position": "0-1", "channel": "news", "data": text}


@given(st.binary(max_size=40))
def test_an_envelope_of_a_binary_message_holds_base64(data: bytes) -> None:
    decoded = json.loads(envelope("0-1", None, data, binary=True))
    assert decoded.keys() == {"position", "channel", "base64"}
    assert decoded["channel"] is None
    assert base64.b64decode(decoded["base64"]) == data


def test_what_weir_says_itself() -> None:
    assert json.loads(msgspec.json.encode(Hello("0-1", recovered=False))) == {
        "type": "hello",
        "position": "0-1",
        "recovered": False,
    }
    assert msgspec.json.encode(Ack(3)) == b'{"ack":3}'
    assert msgspec.json.encode(Refused("too long", 2)) == b'{"error":"too long","message":2}'


def test_the_topic_is_in_the_list() -> None:
    assert BROADCAST in TOPICS
    assert BROADCAST.value is None
