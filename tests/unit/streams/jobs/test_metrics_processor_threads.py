"""The metrics processor is exact for any number of threads that write, read and close, wherever one is interrupted."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest

from support.metrics.processed_events import NOW, event, processor
from weir.streams.jobs import metrics_processor
from weir.streams.jobs.metrics_processor import MetricsProcessor, ProcessorClosedError

PATIENCE_S = 60.0
WRITERS, EVENTS = 4, 3_000


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few events are taken over, aggregated and waited for at a time, and threads take turns all the time."""
    for name, size in (("BATCH", 8), ("ROWS", 32), ("EACH", 1), ("FULL", 64)):
        monkeypatch.setattr(metrics_processor, name, size)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*works: Callable[[], None]) -> None:
    """Runs each in a thread of its own; raises what one of them raised."""
    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(work) for work in works]:
            done.result(PATIENCE_S)


@pytest.mark.usefixtures("hurried")
def test_what_was_taken_is_in_every_answer_asked_for_after_it_and_nothing_is_counted_twice() -> None:
    """Writer w sends the values 1, 2, 3 … as type w, so an answer with n of them must have their sum and greatest."""
    p = processor()
    sending, taken = [0] * WRITERS, [0] * WRITERS
    writing = [True] * WRITERS

    def write(w: int) -> None:
        try:
            for value in range(1, EVENTS + 1):
                sending[w] = value
                p.process_event(event(value, f"type-{w}", f"user-{value % 7}"))
                taken[w] = value
        finally:
            writing[w] = False

    def read() -> None:
        last = [0] * WRITERS
        while any(writing):
            before = list(taken)
            found = p.get_aggregates(1)
            after = list(sending)
            for w in range(WRITERS):
                count = int(found.get(f"type-{w}.count", 0))
                assert max(before[w], last[w]) <= count <= after[w]
                last[w] = count
                if count:
                    assert found[f"type-{w}.sum"] == count * (count + 1) / 2
                    assert (found[f"type-{w}.min"], found[f"type-{w}.max"]) == (1, count)
                    assert found[f"type-{w}.users"] == min(count, 7)

    together(*(lambda w=w: write(w) for w in range(WRITERS)), read, read)  # type: ignore[misc]
    found = p.get_aggregates(1)
    assert [found[f"type-{w}.count"] for w in range(WRITERS)] == [EVENTS] * WRITERS
    assert [found[f"type-{w}.sum"] for w in range(WRITERS)] == [EVENTS * (EVENTS + 1) / 2] * WRITERS


@pytest.mark.usefixtures("hurried")
def test_an_answer_that_has_an_event_has_all_that_were_taken_before_it_in_any_thread() -> None:
    p = processor()
    turns = [threading.Semaphore(1), threading.Semaphore(0)]
    writing = [True, True]

    def write(own: int) -> None:
        for _ in range(EVENTS // 4):
            assert turns[own].acquire(timeout=PATIENCE_S)
            p.process_event(event(kind="ab"[own]))
            turns[1 - own].release()
        writing[own] = False

    def read() -> None:
        while any(writing):
            found = p.get_aggregates(1)
            assert found.get("a.count", 0) - found.get("b.count", 0) in (0, 1)

    together(lambda: write(0), lambda: write(1), read)


@pytest.mark.usefixtures("hurried")
def test_closing_under_load_counts_all_that_was_taken_and_takes_no_more() -> None:
    p = processor()
    taken = [0] * WRITERS
    many = threading.Semaphore(0)

    def write_on(w: int) -> None:
        while True:
            p.process_event(event(kind=f"type-{w}"))
            taken[w] += 1
            many.release()

    def write(w: int) -> None:
        with pytest.raises(ProcessorClosedError):
            write_on(w)

    def close() -> None:
        for _ in range(500):
            assert many.acquire(timeout=PATIENCE_S)
        p.close()
        p.close()
        with pytest.raises(ProcessorClosedError):
            p.process_event(event())

    together(*(lambda w=w: write(w) for w in range(WRITERS)), close)  # type: ignore[misc]
    found = p.get_aggregates(1)
    assert [found.get(f"type-{w}.count", 0) for w in range(WRITERS)] == taken
    assert p.get_aggregates(1) == found


def test_who_brings_too_many_while_others_aggregate_waits_and_close_says_that_it_could_not() -> None:
    held, holding = threading.Event(), threading.Event()
    reader = threading.Thread(target=lambda: p.get_aggregates(1))

    def now_ms() -> int:
        if threading.current_thread() is reader:
            holding.set()
            assert held.wait(PATIENCE_S)
        return NOW

    p = processor(now_ms=now_ms)
    one = event()
    p.process_event(one)
    reader.start()
    assert holding.wait(PATIENCE_S)  # the reader aggregates, and will until `held`
    for _ in range(metrics_processor.FULL - 1):
        p.process_event(one)
    waits = threading.Thread(target=lambda: p.process_event(one))
    waits.start()
    waits.join(0.1)
    assert waits.is_alive()
    with pytest.raises(TimeoutError):
        p.close(timeout=0.05)
    with pytest.raises(ProcessorClosedError):
        p.process_event(one)
    held.set()
    for thread in (reader, waits):
        thread.join(PATIENCE_S)
    p.close()
    assert p.get_aggregates(1)["login.count"] == metrics_processor.FULL + 1


def test_an_error_of_the_clock_loses_nothing() -> None:
    broken = [False]

    def now_ms() -> int:
        if broken[0]:
            raise OSError("no clock")
        return NOW

    p = processor(now_ms=now_ms)
    p.process_event(event())
    broken[0] = True
    for _ in range(2):
        with pytest.raises(OSError, match="no clock"):
            p.get_aggregates(1)
    p.process_event(event())
    broken[0] = False
    assert p.get_aggregates(1)["login.count"] == 2


class Interruption(BaseException):
    """As a signal's handler raises it."""


@pytest.mark.parametrize("step", range(1, 60))
def test_an_interruption_at_any_line_of_taking_over_loses_nothing_and_counts_nothing_twice(step: int) -> None:
    p = processor()
    one = event()
    for _ in range(3):
        p.process_event(one)
    left = [step]

    def trace(frame: FrameType, what: str, _: object) -> Any:
        if frame.f_code.co_filename != metrics_processor.__file__ or frame.f_code.co_name == "_fold":
            return None
        if what == "line" and own in (frame.f_code, frame.f_back and frame.f_back.f_code):
            left[0] -= 1
            if not left[0]:
                raise Interruption
        return trace

    own = MetricsProcessor._take_over.__code__
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        found = p.get_aggregates(1)
    except Interruption:
        found = {}
    finally:
        sys.settrace(before)
    assert not found or left[0] > 0
    p.process_event(one)
    assert p.get_aggregates(1)["login.count"] == 4
    assert p.get_aggregates(1)["login.sum"] == 6


def test_an_interruption_while_a_batch_is_grouped_loses_nothing_and_counts_nothing_twice() -> None:
    """The third event's key interrupts: two are grouped, and the third and the last are so the next time."""

    class Key(str):
        __slots__ = ()

        def __hash__(self) -> int:
            if interrupts and sys._getframe(1).f_code.co_name == "add":
                interrupts.pop()
                raise Interruption
            return super().__hash__()

    interrupts: list[int] = []
    p = processor()
    for kind in ("login", "login", Key("buy"), "login"):
        p.process_event(event(kind=kind))
    p._keys[Key("buy")] = (Key("buy"),)
    interrupts.append(1)
    with pytest.raises(Interruption):
        p.get_aggregates(1)
    assert {name: p.get_aggregates(1)[f"{name}.count"] for name in ("login", "buy")} == {"login": 3, "buy": 1}
