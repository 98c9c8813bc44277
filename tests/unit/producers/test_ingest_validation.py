"""Events judged: what is fit and with which key, what is refused with which field and reason, what is known."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from weir.producers.ingest.body import MAX_ELEMENT, events_in
from weir.producers.ingest.results import PIECE, UNKNOWN, Finding, IdVerdict, IndexVerdict, IngestResponse, answer
from weir.producers.ingest.server import METRICS, MONITORING
from weir.producers.ingest.validation import GOOD, KnownIds, ValidationResult, Validator, ValidEvent
from weir.schemas import examples
from weir.schemas.monitoring import MAX_EVENT, EventType, MonitoringEvent

NOW = 1_769_860_800_000
HOUR = 3_600_000


def event(**fields: Any) -> dict[str, Any]:
    """A good one, but for these fields."""
    good = {"client_id": "c", "event_id": "e", "event_timestamp": NOW, "event_type": "CUMULATIVE",
            "event_key": "k", "event_value": 1}  # fmt: skip
    return good | fields


def metric(**fields: Any) -> dict[str, Any]:
    return {"timestamp": NOW, "user_id": "u", "event_type": "login", "value": 1} | fields


def validated(
    body: Any, validator: Validator | None = None, lines: bool = False
) -> tuple[IngestResponse, list[ValidEvent]]:
    """The answer to a body where Kafka takes all that is fit, and what it is given."""
    made = ValidationResult()
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    fit = (validator or Validator(MONITORING, HOUR, None, None)).validate(made, asyncio.run(events_in(raw, lines)), NOW)
    for place, _, _ in fit:
        assert made.findings[place].status == UNKNOWN
        made.findings[place] = GOOD
    return answer(made.findings, made.ignored_fields, made.ids or None), fit


def refusal(body: Any, intake: Any = MONITORING, lines: bool = False) -> tuple[str | None, str]:
    """The field and the reason of the one event in a body."""
    said, fit = validated(body, Validator(intake, HOUR, None, None), lines)
    assert not fit
    [verdict] = said.verdicts()
    assert (said.refused, said.status, verdict.status) == (1, 400, "refused")
    assert verdict.reason is not None
    return verdict.field, verdict.reason


def test_a_fit_event_is_handed_on_byte_for_byte_with_its_id_as_key() -> None:
    raw = (
        b'{"event_id":"e-1", "client_id":"c","event_timestamp":"1769860800.5","event_type":"TIME-SERIES", '
        b'"event_key":"k","event_value":{ "\\u00e4": [1e2] }}'
    )
    said, fit = validated(b"[ " + raw + b" ]")
    assert [(place, value.strip(), key) for place, value, key in fit] == [(0, raw, b"e-1")]
    assert (said.accepted, said.refused, said.unknown, said.status) == (1, 0, 0, 202)
    assert said.verdicts() == [IdVerdict("e-1", "accepted")]


def test_a_fit_metric_has_no_key_and_is_told_by_its_place() -> None:
    said, fit = validated([metric(), metric(value="1"), metric()], Validator(METRICS, HOUR, None, None))
    assert [(place, key) for place, _, key in fit] == [(0, None), (2, None)]
    assert [(v.index, v.status) for v in said.verdicts() if isinstance(v, IndexVerdict)] == [
        (0, "accepted"), (1, "refused"), (2, "accepted"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"client_id": ""}, "client_id", "has 0 characters, 1 to 128 are allowed"),
        ({"event_id": ""}, "event_id", "has 0 characters"),
        ({"event_key": ""}, "event_key", "has 0 characters"),
        ({"event_id": "e" * 129}, "event_id", "has 129 characters"),
        ({"event_id": "e\n"}, "event_id", "not printable"),
        ({"event_id": 7}, "event_id", "expected `str`, got `int`"),
        ({"client_id": None}, "client_id", "expected `str`, got `null`"),
        ({"event_type": "cumulative"}, "event_type", "'cumulative'; allowed: CUMULATIVE, TIME-SERIES"),
        ({"event_type": "x" * 10_000}, "event_type", "…"),
        ({"event_timestamp": -1}, "event_timestamp", "is negative"),
        ({"event_timestamp": "-1"}, "event_timestamp", "is not an epoch timestamp"),
        ({"event_timestamp": NOW * 1000}, "event_timestamp", "is not an epoch timestamp"),  # microseconds
        ({"event_timestamp": "noon"}, "event_timestamp", "is not an epoch timestamp"),
        ({"event_timestamp": "NaN"}, "event_timestamp", "is not an epoch timestamp"),
        ({"event_timestamp": True}, "event_timestamp", "got `bool`"),
        ({"event_timestamp": NOW + HOUR + 1}, "event_timestamp", "is 2026-01-31T13:00:00.001Z, more than 1h ahead"),
        ({"event_timestamp": 99_999_999_999}, "event_timestamp", "is 5138-11-16T09:46:39Z"),  # ms of 1973, as seconds
        ({"event_value": "NaN"}, "event_value", "is not a finite number"),
        ({"event_value": "Infinity"}, "event_value", "is not a finite number"),
        ({"event_value": "1e400"}, "event_value", "is out of range; allowed: between -1e100 and 1e100"),
        ({"event_value": None}, "event_value", "is neither a number nor a numeric text"),
        ({"event_value": [1]}, "event_value", "is neither a number nor a numeric text"),
        ({"event_value": "1" * 1_000_000}, "event_value", f"has 1000002 bytes, more than {MAX_EVENT}"),
        ({"event_value": "1" * 1_000_000, "event_type": "TIME-SERIES"}, "event_value", "has 1000002 bytes"),
    ],
)  # fmt: skip
def test_a_monitoring_event_is_refused_with_the_field_and_the_reason(
    fields: dict[str, Any], field: str, reason: str
) -> None:
    found, why = refusal(event(**fields))
    assert found == field
    assert reason in why
    assert len(why) < 400


@pytest.mark.parametrize("name", list(event()))
def test_a_field_that_is_missing_is_named(name: str) -> None:
    assert refusal({k: v for k, v in event().items() if k != name}) == (name, "is missing")


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"user_id": ""}, "user_id", "has 0 characters"),
        ({"event_type": ""}, "event_type", "has 0 characters"),
        ({"value": "1"}, "value", "expected `float`, got `str`"),
        ({"value": None}, "value", "got `null`"),
        ({"value": 1e100}, "value", "between -1e100 and 1e100"),
        ({"timestamp": "noon"}, "timestamp", "'noon' is not an RFC 3339 time"),
        ({"timestamp": "2026-01-31T12:00:00"}, "timestamp", "has no offset from UTC"),
        ({"timestamp": "x" * 10_000}, "timestamp", "…"),
        ({"timestamp": -0.5}, "timestamp", "is negative"),
        ({"timestamp": "2026-01-31T13:00:01Z"}, "timestamp", "more than 1h ahead"),
        ({"user_id": "u" * 1_000_000}, "user_id", "has 1000000 characters"),
    ],
)
def test_a_metric_is_refused_with_the_field_and_the_reason(fields: dict[str, Any], field: str, reason: str) -> None:
    found, why = refusal(metric(**fields), METRICS)
    assert found == field
    assert reason in why
    assert len(why) < 400


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_what_is_no_number_in_json_is_refused_alone(number: bytes) -> None:
    for intake, good, name in ((MONITORING, event(), "event_value"), (METRICS, metric(), "value")):
        text = msgspec.json.encode(good)
        bad = text.replace(b":1}", b":" + number + b"}")
        said, fit = validated(b"[" + text + b"," + bad + b"]", Validator(intake, HOUR, None, None))
        assert [place for place, _, _ in fit] == [0]
        assert (said.verdicts()[1].field, said.verdicts()[1].reason) == (
            name,
            f"{number.decode()} is not a JSON number",
        )
        assert refusal(bad, intake)[0] == name
        assert refusal(bad + b"\n\n", intake, lines=True)[0] == name


@pytest.mark.parametrize("kind", ["CUMULATIVE", "TIME-SERIES"])
def test_a_number_that_no_double_holds_is_refused(kind: str) -> None:
    bad = msgspec.json.encode(event(event_type=kind)).replace(b":1}", b":1e400}")
    assert refusal(bad)[0] == "event_value"
    assert refusal(msgspec.json.encode(metric()).replace(b":1}", b":1e400}"), METRICS)[0] == "value"
    assert refusal(msgspec.json.encode(event()).replace(str(NOW).encode(), b"1e400"))[0] == "event_timestamp"


@pytest.mark.parametrize("place", ["event_value", "note"])
def test_what_is_nested_too_deeply_is_refused_alone(place: str) -> None:
    deep = msgspec.Raw(b"[" * 5_000 + b"]" * 5_000)
    said, _ = validated([event(event_id="1"), event(event_id="2", event_type="TIME-SERIES") | {place: deep}])
    assert [v.status for v in said.verdicts()] == ["accepted", "refused"]
    assert (said.verdicts()[1].field, said.verdicts()[1].reason) == (place, "nested too deeply")


@pytest.mark.parametrize("name", ["client_id", "event_key", "event_value"])
def test_a_text_that_is_not_utf8_is_refused(name: str) -> None:
    bad = msgspec.json.encode(event(event_type="TIME-SERIES", event_key="c", event_value="c")).replace(
        b'"%b":"c"' % name.encode(), b'"%b":"\xff"' % name.encode()
    )
    field, reason = refusal(bad)
    assert field == name
    assert "not UTF-8: invalid start byte" in reason


def test_a_text_with_half_a_surrogate_pair_is_refused_alone() -> None:
    bad = msgspec.json.encode(event()).replace(b'"c"', b'"\\ud800"')
    assert refusal(bad) == ("client_id", "\\ud800 is half of a surrogate pair, not a character")
    noted = msgspec.json.encode(event(note="?")).replace(b'"?"', b'"\\ud800"')
    assert refusal(noted)[0] == refusal(noted + b" \n", lines=True)[0] == "note"
    said, _ = validated(b"[" + bad + b"," + msgspec.json.encode(event(client_id="\U0001f600")) + b"]")
    assert [v.status for v in said.verdicts()] == ["refused", "accepted"]


@pytest.mark.parametrize(("body", "got"), [(b"17", "int"), (b"null", "null"), (b'"e"', "str"), (b"[[]]", "array")])
def test_what_is_no_object_is_refused(body: bytes, got: str) -> None:
    assert refusal(body) == (None, f"Expected `object`, got `{got}`")


def test_a_bad_line_is_refused_alone() -> None:
    lines = [msgspec.json.encode(event(event_id=str(n))) for n in range(3)]
    said, fit = validated(b"\n".join([lines[0], b"", b'{"event_id":', lines[1], b"  \r", lines[2]]), lines=True)
    assert [v.status for v in said.verdicts()] == ["accepted", "refused", "accepted", "accepted"]
    assert [value for _, value, _ in fit] == lines


def test_seconds_and_milliseconds_are_told_apart() -> None:
    times = [NOW, NOW // 1000, NOW / 1000, str(NOW), str(NOW // 1000), "1769860800.25", 0, NOW + HOUR]
    said, _ = validated([event(event_id=str(n), event_timestamp=time) for n, time in enumerate(times)])
    assert said.accepted == len(times)


def test_unknown_fields_are_ignored_and_counted() -> None:
    said, fit = validated(
        [event(event_id="1"), event(event_id="2", x=1, y={"z": 1}), event(event_id="3", Event_Id="4")]
    )
    assert (said.accepted, said.ignored_fields) == (3, 3)
    assert b'"y":{"z":1}' in fit[1][1]  # as it came
    said, _ = validated([metric(x=1)], Validator(METRICS, HOUR, None, None))
    assert (said.accepted, said.ignored_fields) == (1, 1)


def test_an_event_that_spaces_and_unknown_fields_make_too_long_is_refused() -> None:
    assert refusal(event(note="x" * MAX_ELEMENT))[1].endswith(f"more than {MAX_ELEMENT}")
    assert refusal(metric(note="x" * MAX_ELEMENT), METRICS)[1].endswith(f"more than {MAX_ELEMENT}")
    for bad in (b"NaN", b"[" * 5_000 + b"]" * 5_000, b'"\\ud800"'):
        long = msgspec.json.encode(event(note="x" * MAX_ELEMENT)).replace(b'"event_value":1', b'"event_value":' + bad)
        assert refusal(long) == (None, f"the event has {len(long)} bytes, more than {MAX_ELEMENT}")


def test_the_id_of_a_refused_event_is_said_where_it_can_be_read() -> None:
    said, _ = validated([event(event_type="x"), event(event_id="f", event_timestamp=-1), event(event_id=7), 17, {}])
    assert [v.event_id for v in said.verdicts() if isinstance(v, IdVerdict)] == ["e", "f", None, None, None]


def test_an_id_that_comes_twice_in_a_request_counts_once() -> None:
    said, fit = validated([event(event_timestamp=-1), event(), event(event_value=2), event(event_id="f"), event()])
    assert [v.status for v in said.verdicts()] == ["refused", "accepted", "duplicate", "accepted", "duplicate"]
    assert (said.accepted, said.duplicates, said.refused, said.status) == (2, 2, 1, 400)
    assert [place for place, _, _ in fit] == [1, 3]


def test_an_id_that_kafka_has_is_a_duplicate() -> None:
    known = KnownIds(10, HOUR)
    known.add("e")
    said, fit = validated([event(), event(event_id="f")], Validator(MONITORING, HOUR, None, known))
    assert [v.status for v in said.verdicts()] == ["duplicate", "accepted"]
    assert [key for _, _, key in fit] == [b"f"]
    assert said.status == 202


def test_what_is_known_elsewhere_may_forbid_an_event() -> None:
    def check(event: MonitoringEvent) -> None:
        if event.event_type is not EventType.CUMULATIVE:
            raise ValueError(f"`event_type` is {event.event_type.value}, but the client's key is CUMULATIVE")

    said, _ = validated(
        [event(event_id="1"), event(event_id="2", event_type="TIME-SERIES")], Validator(MONITORING, HOUR, check, None)
    )
    assert said.verdicts() == [
        IdVerdict("1", "accepted"),
        IdVerdict("2", "refused", "event_type", "is TIME-SERIES, but the client's key is CUMULATIVE"),
    ]


def test_both_kinds_of_one_key_in_a_request_are_refused_from_the_second_on() -> None:
    validator, made = Validator(MONITORING, HOUR, None, None), ValidationResult()
    kinds = ["TIME-SERIES", "CUMULATIVE", "TIME-SERIES", "CUMULATIVE", "CUMULATIVE", "CUMULATIVE"]
    keys = ["k", "k", "k", "l", "k", "l"]
    events = [event(event_id=str(n), event_type=kind, event_key=keys[n]) for n, kind in enumerate(kinds)]
    events[4]["client_id"] = "another"
    fit = validator.validate(made, [msgspec.json.encode(one) for one in events[:3]], NOW)
    fit += validator.validate(made, [msgspec.json.encode(one) for one in events[3:]], NOW)  # the same request goes on
    assert [place for place, _, _ in fit] == [0, 2, 3, 4, 5]
    assert made.ids[1] == "1"
    assert made.findings[1] == Finding(
        "refused", "event_type", "is CUMULATIVE, and an earlier event of this request with the same key is TIME-SERIES"
    )
    assert validator.validate(ValidationResult(), [msgspec.json.encode(events[1])], NOW)  # another request


def test_the_id_of_an_event_refused_for_its_kind_is_free_and_duplicates_have_no_kind() -> None:
    known = KnownIds(10, HOUR)
    known.add("0")
    other = "TIME-SERIES"
    events = [event(event_id="0", event_type=other), event(event_id="1"), event(event_id="1", event_type=other),
              event(event_id="2", event_type=other), event(event_id="2")]  # fmt: skip
    said, fit = validated(events, Validator(MONITORING, HOUR, None, known))
    assert [v.status for v in said.verdicts()] == ["duplicate", "accepted", "duplicate", "refused", "accepted"]
    assert [place for place, _, _ in fit] == [1, 4]


def test_what_is_unknown_makes_a_503_of_it() -> None:
    findings = [GOOD, Finding("refused", "f", "r"), Finding("unknown", None, "r")]
    assert answer(findings, 0).status == 503


@pytest.mark.parametrize("count", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7])
@pytest.mark.parametrize("has_ids", [False, True])
def test_the_pieces_of_an_answer_are_one_json_whatever_its_length(count: int, has_ids: bool) -> None:
    findings = [Finding("refused", "f", "r") if n % 3 else GOOD for n in range(count)]
    said = answer(findings, 2, [f'"{n}' for n in range(count)] if has_ids else None)
    pieces = list(said.pieces(b'"status":400,'))
    body = msgspec.json.decode(b"".join(pieces))
    assert list(body) == ["status", "accepted", "duplicates", "refused", "unknown", "ignored_fields", "events"]
    assert (body["accepted"], body["refused"]) == (said.accepted, said.refused)
    assert body["events"] == msgspec.to_builtins(said.verdicts())
    assert len(pieces) == max(1, -(-count // PIECE))


def test_events_of_which_the_same_is_to_be_said_share_it() -> None:
    validator, made = Validator(METRICS, HOUR, None, None), ValidationResult()
    validator.validate(made, [b"{}"] * 10_000, NOW)
    assert len({id(finding) for finding in made.findings}) == 1
    validator.validate(made, [msgspec.json.encode(metric(value=f"v{n}")) for n in range(10)], NOW)
    assert made.size < 20 * len(made.findings)


@pytest.mark.parametrize("intake", [MONITORING, METRICS])
def test_the_examples_of_the_topic_are_judged_as_the_topic_does(intake: Any) -> None:
    found = examples.load(intake.topic.name)
    for raw in found.records():
        assert validated(raw, Validator(intake, 10**15, None, None))[0].accepted == 1
    for bad in found.bad:
        field, reason = refusal(bad.record(), intake)
        assert field is not None
        assert reason


def test_ids_are_forgotten_by_number_and_by_age() -> None:
    known = KnownIds(100, 1_000)
    for n in range(1_000):
        known.turn(0)
        known.add(str(n))
        assert all(str(n - back) in known for back in range(min(n, 50)))
        assert len(known) <= 100
    known.turn(500)
    assert "999" in known
    known.turn(1_000)
    assert "999" not in known
    known.add("new")
    known.turn(10_000)
    assert "new" not in known
