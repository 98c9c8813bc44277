"""Work is done in order, its errors reach who waits, and none of it is held once it is over."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from functools import partial

import pytest

from weir.consumers.sinks.writer import Writer
from weir.infra.errors import PostgresUnavailableError


class Held:
    """Something that weak references can be made to."""


@pytest.fixture
def no_garbage() -> Iterator[None]:
    """Nothing that refers to itself is found."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def writer() -> Writer:
    return Writer("w", lambda: None, 60.0)


def test_work_is_done_in_order_and_its_end_is_waited_for() -> None:
    done: list[int] = []
    with writer() as work:
        for n in range(100):
            work.give(partial(done.append, n))
        work.wait()
        assert done == list(range(100))
        work.give(partial(done.append, 100))
    assert done[-1] == 100


def fail(_: object) -> None:
    raise PostgresUnavailableError("it is away")


def failing(batch: object, where: str) -> None:
    """Has a piece of work fail, and waits for it there."""
    with writer() as work:
        work.give(partial(fail, batch))
        del batch
        if where == "wait":
            work.wait()
        elif where == "give":
            work.give(lambda: None)


@pytest.mark.parametrize("where", ["wait", "give", "end"])
def test_what_work_raised_is_raised_to_who_waits_next_and_nothing_is_held(no_garbage: None, where: str) -> None:
    batch = Held()
    held = weakref.ref(batch)
    with pytest.raises(PostgresUnavailableError, match="it is away") as caught:
        failing(batch, where)
    del batch, caught
    assert held() is None


def test_while_there_is_no_work_somebody_is_told_whatever_comes_of_it() -> None:
    told = threading.Semaphore(0)

    def idle() -> None:
        told.release()
        raise PostgresUnavailableError("it is away")

    with Writer("w", idle, 0.001) as work:
        assert all(told.acquire(timeout=10) for _ in range(3))
        done = threading.Event()
        work.give(done.set)
        work.wait()
        assert done.is_set()
