"""The metadata of a committed offset: one envelope around each stage's state, and the form before there was one."""

from __future__ import annotations

import pytest

from weir.streams.engine.core.errors import UnreadableStateError
from weir.streams.engine.core.ledger import Routed
from weir.streams.engine.core.offset_metadata import (
    RESETTING,
    VERSION,
    Known,
    Log,
    read_committed,
    read_metadata,
    write_envelope,
    write_metadata,
)
from weir.streams.engine.input.source import SourceState
from weir.streams.engine.windowed.combine import CombineState

STATE = CombineState(4, 4, SourceState(1, None, 1, 5, None, Routed(1, 2, 3)))
TOPICS = (Known("aaaaaa", 4), Known(None, 4))


def test_a_state_comes_out_of_its_envelope_byte_for_byte() -> None:
    state = write_metadata(STATE)
    log = Log("bbbbbb", 0, 17)
    found = read_committed(7, write_envelope(state, TOPICS, log))
    assert found == (7, state, VERSION, TOPICS, log)
    assert not found.resetting


@pytest.mark.parametrize("state", [write_metadata(STATE), write_metadata(Routed(1, 2, 3)), ""])
def test_what_was_committed_without_an_envelope_is_the_state_itself(state: str) -> None:
    found = read_committed(7, state)
    assert (found.offset, found.state, found.version, found.topics, found.log) == (7, state, 0, (), None)


def test_a_group_that_is_being_reset_is_told_apart() -> None:
    assert read_committed(0, RESETTING).resetting


def test_what_a_later_version_committed_is_refused_with_the_way_out() -> None:
    later = write_envelope("[]", TOPICS, None).replace('"v":1', f'"v":{VERSION + 1}')
    with pytest.raises(
        UnreadableStateError, match=f"weir reset JOB.*envelope version {VERSION + 1}; this weir reads up to {VERSION}"
    ):
        read_committed(0, later)


def test_a_broken_envelope_is_refused() -> None:
    with pytest.raises(UnreadableStateError):
        read_committed(0, '{"v":1')


def test_a_version_before_refuses_an_envelope_as_a_state_that_it_cannot_read() -> None:
    with pytest.raises(UnreadableStateError):
        read_metadata(write_envelope(write_metadata(STATE), TOPICS, None), CombineState)
