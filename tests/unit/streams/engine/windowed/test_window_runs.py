"""Runs of windows, against a plain set."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from weir.streams.engine.windowed.window_runs import WindowRuns

STEP = 10
windows = st.integers(-20, 40).map(lambda n: n * STEP)
moves = st.lists(
    st.one_of(
        st.tuples(st.just("add"), windows, st.integers(0, 6)),
        st.tuples(st.just("drop"), st.integers(-250, 450), st.just(0)),
    )
)


@given(moves)
def test_they_hold_what_a_set_holds(steps: list[tuple[str, int, int]]) -> None:
    runs, plain = WindowRuns(STEP), set()
    for name, window, length in steps:
        if name == "add":
            runs.add(window, window + length * STEP)
            plain |= set(range(window, window + length * STEP, STEP))
        else:
            runs.drop_before(window)
            plain = {one for one in plain if one >= window}
    assert {one for one in range(-300, 600, STEP) if one in runs} == plain
    packed = runs.packed(0, 1000)
    assert sum(length for _, length in packed) == len(plain)
    assert all(a[0] + a[1] < b[0] for a, b in itertools.pairwise(packed))
    again = WindowRuns(STEP)
    again.unpack(runs.packed(STEP * 7, 1000), STEP * 7)
    assert again.packed(0, 1000) == packed


def test_the_latest_are_kept_where_there_is_no_room_for_all() -> None:
    assert WindowRuns(STEP, [0, 20, 40, 50]).packed(0, 2) == [(2, 1), (4, 2)]
