"""How many connections there may be: never more, never fewer than none."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.infra import config as configuration
from weir.infra.connections.addresses import address_group
from weir.infra.connections.admission import ConnectionLimits
from weir.infra.websocket import handshake
from weir.infra.websocket.limits import Limits, TokenBucket

ADDRESSES = ["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
steps = st.lists(st.tuples(st.booleans(), st.sampled_from(ADDRESSES)), max_size=100)


@given(st.integers(1, 12), st.integers(1, 6), steps)
def test_counts_are_those_of_a_plain_list(most: int, per_address: int, steps: list[tuple[bool, str]]) -> None:
    counts = ConnectionLimits(most, per_address)
    there: list[str] = []
    for coming, address in steps:
        group = address_group(address)
        if coming:
            refused = counts.enter(address)
            assert (refused is None) == (len(there) < most and there.count(group) < per_address)
            if refused is None:
                there.append(group)
        elif group in there:
            counts.leave(address)
            there.remove(group)
        else:
            with pytest.raises(ValueError, match="no connection"):
                counts.leave(address)
        assert counts.total == len(there) <= most
        assert max(Counter(there).values(), default=0) <= per_address


@given(st.integers(1, 20), steps)
def test_a_place_that_is_left_can_be_taken_again(most: int, steps: list[tuple[bool, str]]) -> None:
    counts = ConnectionLimits(most, most)
    entered = [address for _, address in steps if counts.enter(address) is None]
    for address in entered:
        counts.leave(address)
    assert counts.total == 0
    assert [counts.enter("10.0.0.9") for _ in range(most)] == [None] * most
    assert "the maximum" in (counts.enter("10.0.0.9") or "")


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_ipv6_addresses_of_one_network_are_one(network: int, one: int, other: int) -> None:
    first, second = (str(IPv6Address(network << 64 | host)) for host in (one, other))
    if IPv6Address(first).ipv4_mapped is None and IPv6Address(second).ipv4_mapped is None:
        assert address_group(first) == address_group(second)


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5)), max_size=60),
)
def test_a_pace_is_a_burst_and_a_rate(rate: int, burst: int, steps: list[tuple[float, int]]) -> None:
    pace, now = TokenBucket(rate, burst), 1000.0
    taken: list[tuple[float, int]] = []
    for wait, count in steps:
        now += wait
        within = pace.take(count, now)
        taken.append((now, count))
        most = [burst + rate * (now - since) - sum(c for at, c in taken if at >= since) for since, _ in taken]
        if min(most) < -1e-3:
            assert not within
        if min(most) > 1e-3:
            assert within
        if not within:
            return


def test_a_link_local_address_comes_with_its_interface() -> None:
    assert address_group("fe80::1%eth0") == "fe80::"


def test_the_limits_are_the_settings() -> None:
    given = {"WEIR_BROADCAST_CONNECTIONS": "7", "WEIR_BROADCAST_MAX_MESSAGE": "9", "WEIR_BROADCAST_IDLE": "250ms"}
    limits = Limits.of(configuration.load(given).broadcast)
    assert (limits.connections, limits.per_address, limits.message, limits.idle) == (7, 7, 9, 0.25)
    assert Limits.of(configuration.load(given | {"WEIR_BROADCAST_PER_ADDRESS": "3"}).broadcast).per_address == 3


def test_pages_of_any_origin_may_connect_unless_some_are_named() -> None:
    def allowed(**given: str) -> frozenset[str]:
        return Limits.of(configuration.load(given).broadcast).origins

    page = handshake.HandshakeRequest("GET", "/websocket", {}, {"origin": "https://b.example"}, "127.0.0.1")
    handshake.check_origin(page, allowed())
    handshake.check_origin(page, allowed(WEIR_BROADCAST_ORIGINS="https://a.example,https://b.example"))
    with pytest.raises(handshake.HandshakeRefusedError):
        handshake.check_origin(page, allowed(WEIR_BROADCAST_ORIGINS="https://a.example"))
