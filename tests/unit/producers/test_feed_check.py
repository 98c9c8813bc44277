"""The check of a feed: counts that were sent beside counts that came back."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.producers.simulators.feed.check import CLOCKS_DIFFER, WINDOWS_KEPT, FeedCheck, PairTotal
from weir.schemas.errors import PoisonError
from weir.schemas.times import to_rfc3339

NOW = 1_800_000_000_000


def relations(*pairs: tuple[str, str]) -> bytes:
    return json.dumps([{"parent": parent, "child": child} for parent, child in pairs]).encode()


def calls(*pairs: tuple[str, str]) -> bytes:
    return json.dumps([{"source": source, "destination": destination} for source, destination in pairs]).encode()


def summary(minute: int, *links: tuple[str, str, int]) -> str:
    """The window of that many minutes after the feed's start."""
    start = NOW + minute * 60_000
    return json.dumps(
        {
            "window": {"start": to_rfc3339(start), "end": to_rfc3339(start + 60_000)},
            "links": [{"source": s, "destination": d, "count": n} for s, d, n in links],
        }
    )


def sent(*messages: bytes) -> FeedCheck:
    check = FeedCheck(lambda: NOW)
    for message in messages:
        check.sent(message)
    return check


def totals(check: FeedCheck) -> list[PairTotal]:
    return check.compare().pairs


ab = relations(("A", "a"), ("B", "b"))


def test_what_came_back_as_it_was_sent_is_equal() -> None:
    check = sent(ab, calls(("a", "b"), ("a", "b"), ("b", "a")))
    check.came_back(summary(0, ("A", "B", 2), ("B", "A", 1)))
    assert check.compare().equal
    assert totals(check) == [PairTotal("A", "B", 2, 0, 2), PairTotal("B", "A", 1, 0, 1)]


def test_one_communication_alone_is_one() -> None:
    check = sent(ab, b'{"source": "a", "destination": "b"}')
    assert totals(check) == [PairTotal("A", "B", 1, 0, 0)]


@pytest.mark.parametrize(("counted", "difference"), [(0, -2), (1, -1), (2, 0), (3, 1)])
def test_too_few_and_too_many_are_both_told(counted: int, difference: int) -> None:
    check = sent(ab, calls(("a", "b"), ("a", "b")))
    check.came_back(summary(0, ("A", "B", counted)))
    assert totals(check)[0].difference == difference
    assert check.compare().equal == (difference == 0)


def test_a_pair_that_was_never_sent_is_a_difference() -> None:
    check = sent(ab, calls(("a", "b")))
    check.came_back(summary(0, ("A", "B", 1), ("B", "B", 1)))
    assert [pair.difference for pair in totals(check)] == [0, 1]


def test_the_relations_in_force_when_it_was_sent_decide() -> None:
    check = sent(ab, calls(("a", "b")), relations(("C", "a")), calls(("a", "b")))
    assert totals(check) == [PairTotal("A", "B", 1, 0, 0), PairTotal("C", "B", 1, 0, 0)]


def test_windows_add_up_and_the_latest_of_one_window_replaces_it() -> None:
    check = sent(ab, calls(*[("a", "b")] * 5))
    check.came_back(summary(0, ("A", "B", 1)))
    check.came_back(summary(1, ("A", "B", 3)))
    check.came_back(summary(0, ("A", "B", 2)))
    assert totals(check) == [PairTotal("A", "B", 5, 0, 5)]
    assert check.compare().windows == 2


def test_a_window_revised_to_nothing_counts_nothing() -> None:
    check = sent(ab)
    check.came_back(summary(0, ("A", "B", 1)))
    check.came_back(summary(0))
    assert totals(check) == []
    assert check.compare().equal


def test_a_window_that_ended_before_the_feed_began_is_another_feeds() -> None:
    early = NOW - CLOCKS_DIFFER
    window = {"start": to_rfc3339(early - 60_000), "end": to_rfc3339(early)}
    check = sent(ab, calls(("a", "b")))
    check.came_back(json.dumps({"window": window, "links": [{"source": "A", "destination": "B", "count": 7}]}))
    assert totals(check) == [PairTotal("A", "B", 1, 0, 0)]
    assert check.compare().windows == 0


def test_other_feeds_parents_are_told_apart() -> None:
    check = sent(ab, calls(("a", "b")))
    check.came_back(summary(0, ("A", "B", 1), ("X", "Y", 5), ("X", "A", 2)))
    assert check.compare().equal
    assert check.compare().others == 7


def test_a_call_of_a_child_nobody_declared_is_not_expected_back() -> None:
    check = sent(ab, calls(("a", "z")))
    assert check.compare().equal
    assert check.compare().unresolved == 1


def test_a_call_of_a_child_declared_later_may_come_back_or_not() -> None:
    check = sent(ab, calls(("a", "z")), relations(("Z", "z"), ("C", "a")))
    assert totals(check) == [PairTotal("A", "Z", 0, 1, 0)]
    assert check.compare().equal
    check.came_back(summary(0, ("A", "Z", 1)))
    assert check.compare().equal
    check.came_back(summary(0, ("A", "Z", 2)))
    assert totals(check)[0].difference == 1


def test_what_was_not_confirmed_when_the_connection_broke_is_in_doubt() -> None:
    check = sent(ab, calls(("a", "b")), calls(("a", "b"), ("b", "a")))
    check.confirmed(2)
    assert check.broken() == []
    assert totals(check) == [PairTotal("A", "B", 1, 1, 0), PairTotal("B", "A", 0, 1, 0)]
    for counted, equal in ((0, False), (1, True), (2, True), (3, False)):
        check.came_back(summary(0, ("A", "B", counted)))
        assert check.compare().equal == equal


def test_relations_in_doubt_are_to_be_sent_again_in_order() -> None:
    moved = relations(("C", "a"))
    check = sent(ab, calls(("a", "b")), moved)
    assert check.broken() == [ab, moved]
    for message in (ab, moved, calls(("a", "b"))):
        check.sent(message)
    check.confirmed(6)
    assert check.broken() == []
    assert totals(check) == [PairTotal("C", "B", 1, 0, 0), PairTotal("A", "B", 0, 1, 0)]


def test_what_was_confirmed_is_not_in_doubt_however_often_the_connection_breaks() -> None:
    check = sent(ab, calls(("a", "b")))
    check.confirmed(2)
    for _ in range(3):
        assert check.broken() == []
    assert totals(check) == [PairTotal("A", "B", 1, 0, 0)]


def test_bad_elements_are_not_expected_back() -> None:
    check = sent(ab, b'[{"source": "a"}, {"source": "a", "destination": "b"}, 7]', b"junk", b"[]")
    assert totals(check) == [PairTotal("A", "B", 1, 0, 0)]
    assert check.refused == 4


@pytest.mark.parametrize(
    "payload", ["", "hello", "[]", '{"links": []}', '{"window": {"start": "x", "end": "y"}, "links": []}']
)
def test_what_is_no_summary_is_an_error_and_changes_nothing(payload: str) -> None:
    check = sent(ab, calls(("a", "b")))
    with pytest.raises(PoisonError):
        check.came_back(payload)
    assert totals(check) == [PairTotal("A", "B", 1, 0, 0)]


def test_old_windows_are_forgotten_and_stay_counted() -> None:
    check = sent(ab, calls(*[("a", "b")] * (WINDOWS_KEPT + 5)))
    for minute in range(WINDOWS_KEPT + 5):
        check.came_back(summary(minute, ("A", "B", 1)))
    assert check.compare().equal
    assert check.compare().windows == WINDOWS_KEPT + 5


IDS = st.sampled_from("abcd")


@given(st.lists(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=5), max_size=20), st.integers(0, 3))
def test_any_calls_that_come_back_spread_over_windows_are_equal(
    messages: list[list[tuple[str, str]]], minutes: int
) -> None:
    check = sent(relations(*[(child.upper(), child) for child in "abcd"]), *(calls(*pairs) for pairs in messages))
    windows = [Counter[tuple[str, str]]() for _ in range(minutes + 1)]
    for place, (source, destination) in enumerate(pair for pairs in messages for pair in pairs):
        windows[place % len(windows)][source.upper(), destination.upper()] += 1
    for minute, counts in enumerate(windows):
        check.came_back(summary(minute, *((s, d, n) for (s, d), n in counts.items())))
    assert check.compare().equal
    assert check.counted == check.communications


def test_what_was_sent_since_the_last_window_came_back_is_not_back_yet_and_not_wrong() -> None:
    now = NOW
    check = FeedCheck(lambda: now)
    check.sent(ab)
    check.sent(calls(("a", "b"), ("a", "b")))
    now += 70_000
    check.sent(calls(("a", "b")))
    assert check.compare().is_early
    assert check.compare().not_back == {("A", "B"): 3}
    check.came_back(summary(0, ("A", "B", 2)))
    assert check.compare().is_early
    assert check.compare().not_back == {("A", "B"): 1}
    check.came_back(summary(1, ("A", "B", 1)))
    assert (check.compare().equal, check.compare().is_early, check.compare().not_back) == (True, False, {})


def test_what_is_missing_from_a_window_that_came_back_is_wrong() -> None:
    now = NOW
    check = FeedCheck(lambda: now)
    check.sent(ab)
    check.sent(calls(("a", "b"), ("a", "b")))
    now += 70_000
    check.sent(calls(("a", "b")))
    check.came_back(summary(0, ("A", "B", 1)))
    assert not check.compare().is_early
    assert check.compare().not_back == {("A", "B"): 1}
    assert totals(check)[0].difference == -2


def test_too_many_is_wrong_however_early() -> None:
    check = sent(ab, calls(("a", "b")))
    check.came_back(summary(0, ("A", "B", 2)))
    assert not check.compare().is_early
