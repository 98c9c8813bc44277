"""The events in a body, and the reasons for refusing a body that holds none."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.producers.ingest import body as ingest_body
from weir.producers.ingest.body import BodyError, events_in
from weir.producers.ingest.json_errors import fault, field_and_fault, field_at
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError

DEEP = b"[" * 5_000 + b"]" * 5_000


def told_apart(body: bytes, lines: bool = False) -> list[bytes]:
    return [bytes(raw).strip() for raw in asyncio.run(events_in(body, lines))]


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b'{"a":1}', [b'{"a":1}']),
        (b' \r\n\t[{"a":1}, {"b":2}]\n', [b'{"a":1}', b'{"b":2}']),
        (b'\xef\xbb\xbf[{"a":1}]', [b'{"a":1}']),  # some programs begin a file with this mark
        (b'[1, null, "x", [2]]', [b"1", b"null", b'"x"', b"[2]"]),  # JSON; that they are no events is said of each
        (b"17", [b"17"]),
        # Python's json writes these, and they are not JSON: the others are told apart all the same.
        (b'[{"a":1}, {"v": NaN}, {"v": [1, -Infinity]}]', [b'{"a":1}', b'{"v": NaN}', b'{"v": [1, -Infinity]}']),
        (b'{"v": Infinity}', [b'{"v": Infinity}']),
        (b'[{"a":"]}\\",["},{"v":NaN}]', [b'{"a":"]}\\",["}', b'{"v":NaN}']),
        (b'[{"a":1},{"v":' + DEEP + b"}]", [b'{"a":1}', b'{"v":' + DEEP + b"}"]),
    ],
)
def test_an_object_or_the_elements_of_an_array(body: bytes, events: list[bytes]) -> None:
    assert told_apart(body) == events


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body is empty"),
        (b" \n\n", "the body is empty"),
        (b"[]", "the list is empty"),
        (b" [ ] ", "the list is empty"),
        (b"hello", "invalid character (byte 0)"),
        (b"\xff\xfe{\x00}\x00", "invalid character (byte 0)"),  # UTF-16
        (b'{"a":1', "truncated"),
        (b'[{"a":1},', "truncated"),
        (b'[{"a":1}] x', "trailing characters"),
        (b'{"a":1}\n{"a":2}', "trailing characters"),  # lines, and not said to be
        (b'[{"a" 1},{"a":1}]', "expected ':'"),
        (b'[{"v":NaN},{"a" 1}]', "NaN is not a JSON number (byte 6)"),  # and more than that
        (b'[{"v":NaN},]', "NaN is not a JSON number (byte 6)"),
        (b'[{"v":NaN', "NaN is not a JSON number (byte 6)"),
        (b"NaN", "NaN is not a JSON number (byte 0)"),
        (b"[" * 100_000, "nested too deeply"),
        (b'["' + b'\\"' * 100_000, "truncated"),
    ],
)
def test_a_body_that_is_no_json_is_refused_whole(body: bytes, reason: str) -> None:
    with pytest.raises(BodyError) as caught:
        told_apart(body)
    assert reason in str(caught.value)
    assert caught.value.status == 400


def test_lines_are_events_and_blank_ones_are_not() -> None:
    body = b'{"a":1}\n\n  \r\n{"a":\n[{"b":2}]\r\n{"v": NaN}'
    assert told_apart(body, lines=True) == [b'{"a":1}', b'{"a":', b'[{"b":2}]', b'{"v": NaN}']
    with pytest.raises(BodyError, match="the body is empty"):
        told_apart(b"\n \n", lines=True)


@pytest.mark.parametrize(
    ("body", "lines"),
    [(b"[" + b"{}," * 9 + b"{}]", False), (b'[{"v":[1,2,3,4,5,6,7,8,9]}' + b",{}" * 9 + b"]", False),
     (b"{}\n" * 10, True), (b"\n" * 10 + b"{}", True)],
)  # fmt: skip
def test_a_body_holds_only_so_many_events(monkeypatch: pytest.MonkeyPatch, body: bytes, lines: bool) -> None:
    monkeypatch.setattr(ingest_body, "MAX_EVENTS", 9)
    with pytest.raises(BodyError, match="more than 9") as caught:
        told_apart(body, lines)
    assert caught.value.status == 413
    monkeypatch.setattr(ingest_body, "MAX_EVENTS", 10)
    assert told_apart(body, lines)


def read(event: bytes) -> str:
    """Returns msgspec's error for an event that cannot be read."""
    with pytest.raises((msgspec.DecodeError, RecursionError)) as caught:
        msgspec.json.decode(event)
    return str(caught.value)


@pytest.mark.parametrize(
    ("event", "field", "reason"),
    [
        (b'{"a": NaN}', "a", "NaN is not a JSON number"),
        (b'{"a": 1, "v": {"a": [1, Infinity]}}', "v", "Infinity is not a JSON number"),
        (b'{"a": {"b": 1}, "v": -Infinity}', "v", "-Infinity is not a JSON number"),
        (b'{"v\\u0020\\"": [[],NaN], "b": 1}', 'v "', "NaN is not a JSON number"),
        (b"NaN", None, "NaN is not a JSON number"),
        (b'["a", NaN]', None, "NaN is not a JSON number"),
        (b'{"a": "NaN", "v": "\\ud800"}', "v", "\\ud800 is half of a surrogate pair, not a character"),
        (b'{"v": ["\\uDC00"], "a": 1}', "v", "\\uDC00 is half of a surrogate pair, not a character"),
        (b'{"v": "\\ud800\\u0041", "a": 1}', "v", "\\ud800 is half of a surrogate pair, not a character"),
        (b'{"a": 1, "\\udc00": 1, "b": 1}', None, "\\udc00 is half of a surrogate pair, not a character"),
        (b'{"a": 1, "v" 2}', None, "JSON is malformed: expected ':' (byte 13)"),
        (b'{"a": 1, "v": 2 3}', "v", "JSON is malformed: expected ',' or '}' (byte 16)"),
        (b'{"a": 1, "v": {"b": ', "v", "Input data was truncated"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_field(event: bytes, field: str | None, reason: str) -> None:
    said = read(event)
    assert field_and_fault(event, PoisonError(Reason.NOT_JSON, said)) == (field, reason)
    assert (fault(event, said) is not None) == ("is no" in reason or "is half" in reason)


def test_what_is_nested_too_deeply_is_said_with_its_field() -> None:
    assert field_at(b'{"a": [[]], "v": [[[]]], "b": {}}', None) == "v"
    assert field_at(b'{"a": 1}', None) is None
    assert field_at(DEEP, None) is None


@pytest.mark.parametrize("bad", [b"NaN", b"-Infinity", b'"\\ud800"', DEEP])
def test_one_bad_value_in_a_long_array_hides_none_of_the_others(bad: bytes) -> None:
    good = [b'{"n":%d,"v":[{"t":"],[{"},[[%d]]]}' % (n, n) for n in range(30_000)]
    events = [*good[:20_000], b'{"v":%b}' % bad, *good[20_000:]]
    body = b"[" + b",".join(events) + b"]"
    assert len(body) > 1 << 20
    assert told_apart(body) == events


def test_others_have_their_turns_while_a_long_array_is_told_apart() -> None:
    body = b"[NaN" + b",[[[]]]" * 50_000 + b"]"
    turns = 0

    async def main() -> None:
        nonlocal turns
        telling = asyncio.create_task(events_in(body, lines=False))
        while not telling.done():
            await asyncio.sleep(0)
            turns += 1
        assert len(await telling) == 50_001

    asyncio.run(main())
    assert turns > 5


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.lists(st.dictionaries(st.text(max_size=3), JSON, max_size=3), min_size=1, max_size=3))
def test_what_pythons_json_writes_is_told_apart_as_it_reads_it(events: list[dict[str, Any]]) -> None:
    found = told_apart(json.dumps(events).encode())
    assert [repr(json.loads(raw)) for raw in found] == [repr(event) for event in events]


@given(st.text(alphabet='[]{}:,"\\ aN1', max_size=40))
def test_garbage_is_told_apart_or_refused(text: str) -> None:
    body = text.replace("N", "NaN").encode()
    try:
        found = told_apart(body)
    except BodyError:
        return
    assert all(b"NaN" in raw or json.loads(raw) is not ... for raw in found)
