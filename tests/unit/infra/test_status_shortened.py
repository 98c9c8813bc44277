"""A status cut to the room that there is: valid JSON at every size, with what tells which service it is."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.infra.runtime.status import ServiceStatus, shortened

ERROR = 'Postgres cannot do it now: "' + "ü\n" * 300 + '"'
WAITING = ServiceStatus("sink", "waiting", 4711, 1700000000.5, None, {"attempt": 3, "error": ERROR, "retry_in_s": 4.0})
WHOLE = msgspec.json.encode(WAITING)
BARE = msgspec.json.encode(msgspec.structs.replace(WAITING, detail={}))

values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=80)
details = st.dictionaries(st.text(max_size=8), values, max_size=5)


def read(content: bytes | None) -> ServiceStatus:
    assert content is not None
    return msgspec.json.decode(content, type=ServiceStatus)


def test_what_fits_is_whole() -> None:
    assert shortened(WAITING, len(WHOLE)) == WHOLE


def test_a_long_text_is_cut_and_no_more_than_needed() -> None:
    content = shortened(WAITING, 512)
    found = read(content)
    error = found.detail.pop("error")
    assert isinstance(error, str)
    assert error.endswith("…")
    assert ERROR.startswith(error[:-1])
    assert (found.state, found.pid, found.detail) == ("waiting", 4711, {"attempt": 3, "retry_in_s": 4.0})
    assert content is not None
    assert 508 <= len(content) <= 512


@pytest.mark.parametrize("size", [len(BARE), len(BARE) + 20])
def test_where_that_is_not_enough_the_detail_goes(size: int) -> None:
    assert shortened(WAITING, size) == BARE


@pytest.mark.parametrize("size", [0, len(BARE) - 1])
def test_what_never_fits_is_not_cut(size: int) -> None:
    assert shortened(WAITING, size) is None


@given(details, st.integers(0, 400))
def test_at_every_size_it_is_a_status_of_that_size_at_most(
    detail: dict[str, str | int | float | bool | None], size: int
) -> None:
    status = msgspec.structs.replace(WAITING, detail=detail)
    content = shortened(status, size)
    if content is None:
        assert size < len(BARE)
        return
    assert len(content) <= size
    found = read(content)
    assert msgspec.structs.replace(found, detail={}) == msgspec.structs.replace(WAITING, detail={})
    assert found.detail == {} or found.detail.keys() == detail.keys()
    for name, value in found.detail.items():
        given_value = detail[name]
        cut = isinstance(value, str) and isinstance(given_value, str) and given_value.startswith(value[:-1])
        assert value == given_value or (cut and str(value).endswith("…"))
