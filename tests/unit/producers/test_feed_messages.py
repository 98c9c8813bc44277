"""A feed's message, taken apart: list in, list out."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.producers.feed.messages import Classifier, Communications, Part, RefusedElement, Relations
from weir.schemas.dead_letters import Reason

CALL = b'{"source":"a","destination":"b","method":"GET","path":"/list","httpStatus":400}'
OTHER_CALL = b'{"source":"b","destination":"a"}'
RELATION = b'{"parent":"p","child":"c"}'


def parts(message: bytes, **limits: int) -> list[Part]:
    return Classifier(**limits).parts(message)


def reasons(message: bytes) -> list[tuple[str, int | None]]:
    """(reason, element) of what was refused; nothing else may have been found."""
    found = parts(message)
    assert all(isinstance(part, RefusedElement) for part in found)
    return [(part.reason, part.element) for part in found if isinstance(part, RefusedElement)]


def test_one_communication_is_one_record_with_the_bytes_that_came() -> None:
    assert parts(b" " + CALL) == [Communications(b" " + CALL, 1)]


def test_a_list_of_communications_is_one_record_with_the_bytes_that_came() -> None:
    message = b"[" + CALL + b", " + OTHER_CALL + b"]"
    assert parts(message) == [Communications(message, 2)]


def test_a_list_of_relations_is_one_record_each_with_the_child_as_key() -> None:
    message = b'[{"parent": "p", "child": "c"}, {"child": "d", "parent": "q", "since": 3}]'
    assert parts(message) == [Relations([(b"c", b'{"parent":"p","child":"c"}'), (b"d", b'{"parent":"q","child":"d"}')])]


def test_a_relation_alone_is_a_list_of_one() -> None:
    assert parts(RELATION) == [Relations([(b"c", RELATION)])]


def test_a_mixed_list_keeps_its_order() -> None:
    message = b"[" + b",".join([RELATION, CALL, OTHER_CALL, RELATION, b"7", CALL]) + b"]"
    assert parts(message) == [
        Relations([(b"c", RELATION)]),
        Communications(b"[" + CALL + b"," + OTHER_CALL + b"]", 2),
        Relations([(b"c", RELATION)]),
        RefusedElement(
            Reason.INVALID, "neither a relation nor a communication: Expected `object`, got `int`", b"7", element=4
        ),
        Communications(b"[" + CALL + b"]", 1),
    ]


def test_a_bad_element_is_refused_alone() -> None:
    message = b"[" + CALL + b',{"source":"a"},' + CALL + b"]"
    assert parts(message) == [
        Communications(b"[" + CALL + b"]", 1),
        RefusedElement(Reason.INVALID, "Object missing required field `destination`", b'{"source":"a"}', element=1),
        Communications(b"[" + CALL + b"]", 1),
    ]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"[]", Reason.EMPTY),
        (b" [ ] ", Reason.EMPTY),
        (b"hello", Reason.NOT_JSON),
        (CALL[:-1], Reason.NOT_JSON),
        (CALL + CALL, Reason.NOT_JSON),
        (b"[" + CALL, Reason.NOT_JSON),
        (b"[" + RELATION, Reason.NOT_JSON),
        (b'{"source":"a","destination":"b","httpStatus":NaN}', Reason.NOT_JSON),
        (b'\xef\xbb\xbf{"source":"a","destination":"b"}', Reason.NOT_JSON),
        (b'{"source":"a","destination":"\xff"}', Reason.NOT_UTF8),
        (b'{"source":"a","destination":"b","note":"\xff"}', Reason.NOT_UTF8),
        (b"\xff\xfe", Reason.NOT_UTF8),
        (b"5", Reason.INVALID),
        (b'"text"', Reason.INVALID),
        (b"null", Reason.INVALID),
        (b"{}", Reason.INVALID),
        (b'{"hello":"world"}', Reason.INVALID),
        (b'{"source":1,"destination":"b"}', Reason.INVALID),
        (b'{"source":"","destination":"b"}', Reason.INVALID),
        (b'{"source":"a","destination":"b","httpStatus":"400"}', Reason.INVALID),
        (b'{"source":"a","destination":"%s"}' % (b"x" * 129), Reason.INVALID),
        (b'{"parent":"p","child":"%s"}' % (b"x" * 129), Reason.INVALID),
        (b'{"parent":"p","child":"a\\u0000"}', Reason.INVALID),
        (b'{"parent":"p"}', Reason.INVALID),
        (b"[" * 10_000 + b"]" * 10_000, Reason.NESTING),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, Reason.NESTING),
        (b'{"source":"a","destination":"b","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}", Reason.NESTING),
    ],
)
def test_what_is_refused_whole_and_why(message: bytes, reason: str) -> None:
    assert reasons(message) == [(reason, None)]
    [refused] = parts(message)
    assert isinstance(refused, RefusedElement)
    assert refused.raw == message


@pytest.mark.parametrize(
    ("element", "reason"),
    [
        (b"[]", Reason.INVALID),
        (b"[" + CALL + b"]", Reason.INVALID),
        (b'{"source":"a","destination":"b","note":"\xff"}', Reason.NOT_UTF8),
        (b'{"parent":"p","child":"\xff"}', Reason.NOT_UTF8),
        (b'{"parent":"p","child":"\\u007f"}', Reason.INVALID),
        (b'{"parent":"p","child":7}', Reason.INVALID),
    ],
)
def test_what_is_refused_as_an_element(element: bytes, reason: str) -> None:
    assert reasons(b"[" + element + b"]") == [(reason, 0)]


def test_the_detail_speaks_of_what_the_element_was_meant_to_be() -> None:
    found = parts(b'[{"parent":"p"},{"source":"a"},{"parent":"","child":"c"}]')
    assert [part.detail for part in found if isinstance(part, RefusedElement)] == [
        "Object missing required field `child`",
        "Object missing required field `destination`",
        "Expected `str` of length >= 1 - at `$.parent`",
    ]


def test_an_unknown_field_is_no_fault() -> None:
    assert parts(b'{"source":"a","destination":"b","ttl":9}') == [
        Communications(b'{"source":"a","destination":"b","ttl":9}', 1)
    ]


def test_an_id_of_128_characters_is_taken() -> None:
    child = "é" * 128
    assert parts(msgspec.json.encode([{"parent": "p", "child": child}])) == [
        Relations([(child.encode(), msgspec.json.encode({"parent": "p", "child": child}))])
    ]


def test_a_list_too_large_for_a_record_is_split() -> None:
    assert parts(b"[" + b",".join([CALL] * 5) + b"]", max_value=2 * len(CALL) + 3) == [
        Communications(b"[" + CALL + b"," + CALL + b"]", 2),
        Communications(b"[" + CALL + b"," + CALL + b"]", 2),
        Communications(b"[" + CALL + b"]", 1),
    ]


def test_a_communication_too_large_for_a_record_is_refused() -> None:
    assert reasons(b'{"source":"a","destination":"b","path":"%s"}' % (b"x" * 1_100_000)) == [(Reason.TOO_LARGE, None)]


ELEMENTS = st.sampled_from([CALL, OTHER_CALL, RELATION, b"{}", b"[]", b'"\xff"', b"12", b'{"parent":"p","child":""}'])


@given(st.lists(ELEMENTS, min_size=1, max_size=30), st.integers(min_value=len(CALL) + 2, max_value=500))
def test_every_element_is_in_exactly_one_part_in_order_and_no_record_is_too_large(
    elements: list[bytes], max_value: int
) -> None:
    found: list[bytes] = []
    for part in parts(b"[" + b",".join(elements) + b"]", max_value=max_value):
        if isinstance(part, Communications):
            assert len(part.value) <= max_value
            raws = [bytes(raw) for raw in msgspec.json.decode(part.value, type=list[msgspec.Raw])]
            assert len(raws) == part.count
            found += raws
        elif isinstance(part, Relations):
            found += [value for _, value in part.records]
        else:
            assert part.element == len(found)
            found.append(part.raw)
    assert found == elements


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail(message: bytes) -> None:
    assert parts(message)
