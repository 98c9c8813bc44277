"""Which half-open handshakes make way: those of crowded addresses that have had their time, and never too many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weir.infra.connections.awaiting_request import AwaitingRequest

PATIENCE = 1.0
comings = st.lists(st.tuples(st.integers(0, 5), st.floats(0, 0.5)), min_size=1, max_size=40)


@given(st.integers(1, 40), comings, st.floats(0, 2))
def test_who_makes_way_has_had_its_time_and_is_of_a_crowded_address(
    most: int, comings: list[tuple[int, float]], later: float
) -> None:
    half_open: AwaitingRequest[int] = AwaitingRequest(most, 100, PATIENCE)
    now, there = 0.0, dict[int, tuple[int, float]]()
    for number, (address, wait) in enumerate(comings):
        now += wait
        there[number] = address, now
        assert half_open.enter(number, f"10.0.0.{address}", now) is None
        assert half_open.is_full == (len(there) >= most)
    now += later
    late, wait = half_open.evictable(now)
    addresses = [address for address, _ in there.values()]
    crowded = [n for n, (of, _) in there.items() if addresses.count(of) >= len(there) / len(set(addresses))]
    overdue = [n for n in crowded if now - there[n][1] >= PATIENCE]
    assert len(late) == len(set(late)) == min(len(overdue), max(1, most // 4))
    assert set(late) <= set(overdue)
    for left in set(overdue) - set(late):
        for gone in late:
            more, less = addresses.count(there[gone][0]), addresses.count(there[left][0])
            assert more > less or (more == less and (there[gone][0] != there[left][0] or gone < left))
    if not late:
        assert abs(wait - (min(there[n][1] for n in crowded) + PATIENCE - now)) < 1e-9
    for number in late:
        half_open.leave(number)
        half_open.leave(number)
    assert len(half_open) == len(there) - len(late)


@given(st.integers(1, 5), st.lists(st.integers(0, 2), max_size=30))
def test_an_address_has_no_more_than_it_may(per_address: int, comings: list[int]) -> None:
    half_open: AwaitingRequest[int] = AwaitingRequest(1_000, per_address, PATIENCE)
    there: dict[int, list[int]] = {}
    for number, address in enumerate(comings):
        own = there.setdefault(address, [])
        gone = half_open.enter(number, f"10.0.0.{address}", float(number))
        assert gone == (own[0] if len(own) == per_address else None)
        if gone is not None:
            half_open.leave(gone)
            own.remove(gone)
        own.append(number)
    assert len(half_open) == sum(map(len, there.values()))


def test_an_ipv6_network_is_one_address() -> None:
    half_open: AwaitingRequest[str] = AwaitingRequest(10, 1, PATIENCE)
    assert half_open.enter("one", "2001:db8::1", 0.0) is None
    assert half_open.enter("other", "2001:db8::2", 0.0) == "one"


def test_where_there_is_none_nobody_makes_way() -> None:
    assert AwaitingRequest[str](10, 10, PATIENCE).evictable(5.0) == ([], 0.0)
