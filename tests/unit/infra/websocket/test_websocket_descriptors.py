"""Limits never ask for more open files than there are, and leave some for the rest of the process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.infra.connections.open_files import RESERVE
from weir.infra.errors import StartError
from weir.infra.websocket.descriptors import fitting
from weir.infra.websocket.limits import Limits


@given(st.integers(RESERVE + 12, 1 << 20), st.integers(1, 3), st.integers(1, 100_000), st.integers(1, 5_000))
def test_connections_and_handshakes_fit(descriptors: int, ports: int, connections: int, handshakes: int) -> None:
    wanted = Limits(connections=connections, handshakes=handshakes)
    fit = fitting(wanted, descriptors, ports)
    assert fit.connections + ports * fit.handshakes + RESERVE <= descriptors
    assert 1 <= fit.connections <= connections
    assert 1 <= fit.handshakes <= handshakes
    if connections + ports * handshakes + RESERVE <= descriptors // 2:
        assert fit.connections == connections


def test_where_there_are_enough_nothing_changes() -> None:
    assert fitting(Limits(), 65_536, 3) == Limits()


def test_where_nothing_would_be_left_it_is_said() -> None:
    with pytest.raises(StartError, match="ulimit -n"):
        fitting(Limits(), RESERVE + 3, 1)
