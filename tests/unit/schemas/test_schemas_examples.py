"""Every topic's examples: the good ones survive a round trip, the bad ones are refused for the reason they give."""

from __future__ import annotations

import re

import msgspec
import pytest

from weir.schemas import examples
from weir.schemas.errors import PoisonError
from weir.schemas.topics import TOPICS, by_name

GOOD = [(name, record) for name in examples.names() for record in examples.load(name).records()]
BAD = [(name, bad) for name in examples.names() for bad in examples.load(name).bad]


def test_exactly_the_typed_topics_have_examples() -> None:
    typed = {topic.name for topic in TOPICS if topic.value is not None}
    missing, odd = typed - set(examples.names()), set(examples.names()) - typed
    assert not missing, f"these topics have a type, and no schemas/examples/NAME.json: {sorted(missing)}"
    assert not odd, f"these files in schemas/examples are of no topic with a type: {sorted(odd)}"


@pytest.mark.parametrize("name", examples.names())
def test_a_topic_has_good_and_bad_examples(name: str) -> None:
    assert examples.load(name).good
    assert examples.load(name).bad


@pytest.mark.parametrize(("name", "record"), GOOD)
def test_a_good_example_is_accepted_and_survives_a_round_trip(name: str, record: bytes) -> None:
    decoder = by_name(name).decoder()
    assert decoder is not None
    elements = [element for element, _ in decoder.elements(record)]
    assert elements
    for element in elements:
        assert not isinstance(element, PoisonError)
        assert decoder.one(msgspec.json.encode(element)) == element


@pytest.mark.parametrize(("name", "bad"), BAD, ids=[f"{name}: {bad.why}" for name, bad in BAD])
def test_a_bad_example_is_refused_for_its_reason(name: str, bad: examples.Bad) -> None:
    decoder = by_name(name).decoder()
    assert decoder is not None
    record = bad.record()
    [(error, raw)] = decoder.elements(record)
    assert isinstance(error, PoisonError)
    assert (error.reason, raw) == (bad.reason, record)
    assert bad.detail in error.detail


@pytest.mark.parametrize(("name", "bad"), BAD, ids=[f"{name}: {bad.why}" for name, bad in BAD])
def test_the_fast_way_takes_no_record_that_the_careful_way_refuses(name: str, bad: examples.Bad) -> None:
    topic = by_name(name)
    decoder = topic.decoder()
    assert decoder is not None
    try:
        decoded = decoder.fast(bad.record())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if decoded != []:
        assert topic.check is not None
        with pytest.raises(ValueError, match=re.escape(bad.detail)):
            topic.check(decoded)


def test_a_bad_element_of_an_array_is_refused_alone() -> None:
    decoder = by_name("communications").decoder()
    assert decoder is not None
    good = b'{"source":"a","destination":"b"}'
    found = list(decoder.elements(b"[" + good + b', {"source":"a"}, ' + good + b"]"))
    assert [isinstance(element, PoisonError) for element, _ in found] == [False, True, False]
    assert [raw for _, raw in found] == [good, b'{"source":"a"}', good]
