"""Where a dead letter came from survives its way through Kafka's headers."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.schemas.dead_letters import PREFIX, Origin, Reason, from_headers, to_headers

whole = st.integers(0, 2**63 - 1)
origins = st.builds(
    Origin,
    reason=st.sampled_from(Reason).map(str),
    detail=st.text(),
    source=st.text(),
    offset=whole,
    partition=st.none() | whole,
    element=st.none() | whole,
    timestamp=st.none() | st.integers(-(2**63), 2**63 - 1),
    size=st.none() | whole,
    job=st.none() | st.text(),
    replayed_from=st.none() | st.text(),
)


@given(origins)
def test_an_origin_is_read_back_as_it_was_written(origin: Origin) -> None:
    assert from_headers(to_headers(origin)) == origin


@given(origins, st.lists(st.tuples(st.text().filter(lambda name: not name.startswith(PREFIX)), st.binary())))
def test_other_headers_do_not_matter(origin: Origin, others: list[tuple[str, bytes]]) -> None:
    assert from_headers([*others, *to_headers(origin)]) == origin


@given(st.lists(st.tuples(st.sampled_from([PREFIX + "offset", PREFIX + "reason", "x"]), st.none() | st.binary())))
def test_headers_that_are_no_dead_letters_are_a_validation_error(headers: list[tuple[str, bytes]]) -> None:
    with pytest.raises(msgspec.ValidationError):
        from_headers(headers)


def test_a_record_may_have_no_headers_at_all() -> None:
    with pytest.raises(msgspec.ValidationError):
        from_headers(None)


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_says_what_it_means(reason: Reason) -> None:
    assert reason.meaning.endswith((".", ")."))
