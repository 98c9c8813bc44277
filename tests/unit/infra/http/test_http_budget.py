"""Whose answers may wait to be read."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from weir.infra.http import AnswerBudget, HttpLimits, Shared

LIMITS = HttpLimits(answers=100)


def test_an_address_holds_its_part_and_leaves_the_rest_to_others() -> None:
    answers = AnswerBudget(LIMITS)
    with ExitStack() as held:
        held.enter_context(answers.held_for("2001:db8::1", 20))
        assert not answers.fits_for("2001:db8::2", 6)  # the same /64
        assert answers.fits_for("2001:db8::2", 5)
        assert answers.fits_for("10.0.0.2", 80)  # whatever its size, if it is the only one
        assert not answers.fits_for("10.0.0.2", 81)
        held.enter_context(answers.held_for("127.0.0.1", 30))
        assert answers.fits_for("127.0.0.1", 50)  # a proxy, for all its clients
    assert answers.size == 0
    assert answers.fits_for("2001:db8::2", 1_000)


def test_who_is_alone_in_an_address_grows_past_its_part_and_another_of_it_does_not() -> None:
    bodies = Shared(100, LIMITS)
    bodies.hold_for("10.0.0.1", 30)
    assert bodies.fits_for("10.0.0.1", 0, own=30)
    assert not bodies.fits_for("10.0.0.1", 0, own=10)
    bodies.hold_for("10.0.0.1", -10)
    assert bodies.fits_for("10.0.0.1", 0, own=10)


def test_room_is_waited_for_as_long_as_a_client_may_take_to_read() -> None:
    async def main() -> list[bool]:
        found = []
        for write in (0.01, 60.0):
            answers = AnswerBudget(HttpLimits(answers=100, write=write))
            with answers.held_for("10.0.0.1", 20):
                waiting = asyncio.create_task(answers.room_for("10.0.0.1", 10))
                await asyncio.wait([waiting], timeout=0 if write > 1 else None)
            found.append(await waiting)
        return found

    assert asyncio.run(main()) == [False, True]


@pytest.mark.parametrize(
    ("connections", "per_address", "part"),
    [(4_000, 1_000, 250), (4_000, 2_000, 500), (4_000, 9_000, 1_000), (4_000, 10, 250)],
)
def test_a_part_of_what_connections_share_is_a_quarter_or_more(connections: int, per_address: int, part: int) -> None:
    limits = HttpLimits(connections=connections, per_address=per_address)
    assert (limits.of_address(1_000), limits.of_loopback(1_000)) == (part, 1_000)


@pytest.mark.parametrize(("per_address", "fitting"), [(1_000, 200), (4_000, 800), (10, 10)])
def test_with_few_open_files_an_address_has_its_part_of_what_is_left(per_address: int, fitting: int) -> None:
    limits = HttpLimits(connections=4_000, per_address=per_address).fitting(1_000)
    assert (limits.connections, limits.per_address, limits.from_loopback) == (800, fitting, 800)
