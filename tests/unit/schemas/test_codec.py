"""The codec against arbitrary bytes: elements or PoisonErrors, never anything else; and both ways agree."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.schemas.codec import BAD_INPUT, Decoder
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.links import Communication, check_communication

DECODER = Decoder(Communication, check_communication)

ids = st.text(min_size=1, max_size=128).filter(str.isprintable)
communications = st.builds(
    Communication,
    source=ids,
    destination=ids,
    method=st.none() | st.text(),
    path=st.none() | st.text(),
    http_status=st.none() | st.integers(-(2**63), 2**63 - 1),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["source", "destination", "path", "x"]), inner),
    max_leaves=20,
)
#: Bytes that look like JSON more often than bytes drawn evenly do.
almost_json = st.lists(
    st.sampled_from([b"[", b"]", b"{", b"}", b'"', b":", b",", b" ", b'"source"', b'"destination"', b"1", b"null"])
    | st.binary(max_size=3),
    max_size=30,
).map(b"".join)


@given(st.binary() | almost_json | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_become_elements_or_poison_and_nothing_is_lost(value: bytes) -> None:
    found = list(DECODER.elements(value))
    assert found
    for element, raw in found:
        assert isinstance(element, Communication | PoisonError)
        assert raw in value
        if isinstance(element, PoisonError):
            assert element.reason in set(Reason)
            assert element.detail


@given(st.lists(communications, min_size=1))
def test_what_was_encoded_is_decoded(sent: list[Communication]) -> None:
    assert [element for element, _ in DECODER.elements(msgspec.json.encode(sent))] == sent
    assert [element for one in sent for element, _ in DECODER.elements(msgspec.json.encode(one))] == sent


@given(st.binary() | almost_json | communications.map(msgspec.json.encode))
def test_the_fast_way_and_the_careful_way_agree(value: bytes) -> None:
    careful = [element for element, _ in DECODER.elements(value)]
    try:
        fast = DECODER.fast(value)
    except BAD_INPUT:
        assert any(isinstance(element, PoisonError) for element in careful)
    else:
        listed = fast if isinstance(fast, list) else [fast]
        assert all(
            one == other if isinstance(other, Communication) else other.reason == Reason.INVALID
            for one, other in zip(listed, careful, strict=bool(listed))
        )


@pytest.mark.parametrize("value", [None, b""])
def test_a_record_without_a_value_is_empty(value: bytes | None) -> None:
    [(error, raw)] = DECODER.elements(value)
    assert isinstance(error, PoisonError)
    assert (error.reason, raw) == (Reason.EMPTY, b"")


def test_ten_megabytes_are_no_trouble() -> None:
    path = "x" * 10_000_000
    [(element, _)] = DECODER.elements(msgspec.json.encode(Communication(source="a", destination="b", path=path)))
    assert isinstance(element, Communication)
    assert element.path == path


def test_an_id_may_be_as_long_as_the_limit_in_characters_not_bytes() -> None:
    assert DECODER.one(msgspec.json.encode({"source": "子" * 128, "destination": "b"})).source == "子" * 128


@given(st.text(min_size=1, max_size=128))
def test_an_id_is_taken_as_it_is_or_refused(text: str) -> None:
    value = msgspec.json.encode({"source": text, "destination": "b"})
    if text.isprintable():
        assert DECODER.one(value).source == text
    else:
        with pytest.raises(PoisonError, match="not printable"):
            DECODER.one(value)
