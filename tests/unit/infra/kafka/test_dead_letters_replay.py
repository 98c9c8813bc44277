"""The replay of a dead letter: its topic, its record, and whether the replay could succeed."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.infra.dead_letters.letters import CannotReplayError, Letter, Planner, parse_position, to_letter
from weir.infra.kafka.lines import Outgoing
from weir.infra.kafka.record_view import RecordView
from weir.schemas.dead_letters import Origin, Reason, Replay, to_headers
from weir.schemas.errors import WeirError
from weir.schemas.topic import MAX_RECORD
from weir.schemas.topics import COMMUNICATIONS, RELATIONS

LATEST = 2_000_000_000_000
CALL = b'{"source":"a","destination":"b"}'
RELATION = b'{"parent":"p","child":"c"}'


def letter(
    value: bytes = CALL,
    source: str = "communications",
    reason: Reason = Reason.UNKNOWN_CHILD,
    key: bytes | None = None,
    timestamp: int | None = 1000,
    size: int | None = None,
) -> Letter:
    """A letter at 0/17, as it is read."""
    origin = Origin(reason, "detail", source, 5, partition=2, timestamp=timestamp, size=size)
    return to_letter(RecordView("dead-letters", 0, 17, 9000, key, value, to_headers(origin)))


def test_a_letter_goes_back_to_the_topic_it_came_from_with_its_key_and_time() -> None:
    sending = Planner(latest=LATEST).plan(letter(key=b"k"))
    assert (sending.position, sending.topic, sending.doubt) == ("0/17", COMMUNICATIONS, None)
    assert sending.records == [Outgoing(CALL, b"k", 1000)]


@pytest.mark.parametrize(("value", "topic"), [(CALL, COMMUNICATIONS), (RELATION, RELATIONS)])
def test_a_feeds_letter_goes_where_its_kind_goes(value: bytes, topic: object) -> None:
    assert Planner(latest=LATEST).plan(letter(value, source="ws://feed:8765/")).topic is topic


def test_a_relation_gets_its_child_as_key() -> None:
    sending = Planner(latest=LATEST).plan(letter(RELATION, source="wss://feed", key=None))
    assert sending.records == [Outgoing(RELATION, b"c", 1000)]


def test_the_time_can_be_now() -> None:
    assert Planner(latest=LATEST, now=True).plan(letter(timestamp=-5)).records == [Outgoing(CALL)]


def test_a_letter_without_a_time_is_sent_as_of_now() -> None:
    assert Planner(latest=LATEST).plan(letter(timestamp=None)).records == [Outgoing(CALL)]


@pytest.mark.parametrize(
    ("refused", "doubt"),
    [
        (letter(b"nope"), "not-json: JSON is malformed"),
        (letter(b'{"source":"a"}'), "invalid: Object missing required field `destination`"),
        (letter(b""), "empty: the record has no value"),
        (letter(timestamp=LATEST + 1), "timestamp: 2033-05-18T03:33:20.001Z is not a time that a job takes"),
        (letter(timestamp=-5), "timestamp: 1969-12-31T23:59:59.995Z is not a time that a job takes"),
        (letter(CALL[:5], size=10_000_000), "not-json"),
    ],
)
def test_what_would_be_refused_again_is_told(refused: Letter, doubt: str) -> None:
    sending = Planner(latest=LATEST).plan(refused)
    assert sending.doubt is not None
    assert sending.doubt.startswith(doubt)
    assert [record.value for record in sending.records] == [refused.record.value]


def test_a_beginning_that_happens_to_be_valid_is_still_only_a_beginning() -> None:
    assert Planner(latest=LATEST).plan(letter(size=100)).doubt == "only the beginning was kept of its 100 bytes"


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (letter(source="link-counts"), "cannot be sent to link-counts, which only streams/links writes"),
        (letter(b"nope", source="ws://feed"), "neither communications nor relations"),
        (letter(timestamp=0), "which Kafka clients cannot send"),
        (letter(CALL + b" " * MAX_RECORD), "the topic takes 1,048,576"),
        (Letter(RecordView("dead-letters", 0, 17, 9000, None, CALL), None), "does not name its source"),
    ],
)
def test_what_cannot_be_sent_is_an_error_that_says_why(refused: Letter, why: str) -> None:
    with pytest.raises(CannotReplayError, match=why):
        Planner(latest=LATEST).plan(refused)


def test_the_topic_can_be_said() -> None:
    planner = Planner(latest=LATEST, to=RELATIONS)
    assert planner.plan(letter(b"nope", source="ws://feed")).topic is RELATIONS


@given(st.binary(), st.none() | st.binary(), st.sampled_from(["communications", "relations", "ws://feed"]))
def test_any_letter_has_a_replay_or_a_reason_for_none(value: bytes, key: bytes | None, source: str) -> None:
    try:
        sending = Planner(latest=LATEST).plan(letter(value, source, key=key))
    except CannotReplayError:
        return
    assert all(record.value in value for record in sending.records)


@pytest.mark.parametrize("text", ["", "17", "0/", "/17", "0/-1", "0/1/2", "a/b", "0/٣", "0/" + "9" * 40])
def test_what_is_no_position_is_an_error(text: str) -> None:
    with pytest.raises(WeirError, match="write partition/offset"):
        parse_position(text)


def test_as_json_a_letter_has_its_origin_its_message_and_its_replay() -> None:
    found = json.loads(orjson.dumps(letter(key=b"k").to_dict(Replay("0/17", "communications", "2026-01-31T12:00:00Z"))))
    assert found == {
        "position": "0/17",
        "reason": "unknown-child",
        "detail": "detail",
        "source": "communications",
        "partition": 2,
        "offset": 5,
        "element": None,
        "timestamp": "1970-01-01T00:00:01Z",
        "size": None,
        "job": None,
        "replayed_from": None,
        "written": "1970-01-01T00:00:09Z",
        "replayed": {"topic": "communications", "at": "2026-01-31T12:00:00Z"},
        "key": "k",
        "value": {"source": "a", "destination": "b"},
    }
