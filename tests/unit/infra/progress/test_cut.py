"""When an answer has what a source held, and how many records it lacks: from what was seen of the chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from weir.infra.progress.chain import ChainSurvey
from weir.infra.progress.cut import Cut, since, waiting, went_back
from weir.infra.progress.position import BadPositionError, Position
from weir.schemas.topic import PartitionId

Steps = Sequence[tuple[Mapping[int, int], Mapping[int, int]]]


def seen(
    asked: float, steps: Steps, written: Mapping[int, int], stable: Mapping[int, int] | None = None, number: int = 7
) -> ChainSurvey:
    """A survey of steps, (reached, ends) each, and of the high watermarks of a topic `r` of results."""
    ends = [end for _, end in steps]
    return ChainSurvey(asked, number, ends[0], [reached for reached, _ in steps], ends, results(written),
                  results(written if stable is None else stable))  # fmt: skip


def results(offsets: Mapping[int, int]) -> dict[PartitionId, int]:
    return {("r", partition): offset for partition, offset in offsets.items()}


def test_all_that_the_source_held_has_to_pass_each_step_and_then_be_read() -> None:
    cut = Cut(1.0)
    everything = results({0: 100, 1: 100})
    cut.advance(seen(1.0, [({0: 3, 1: 5}, {0: 4, 1: 5}), ({0: 9}, {0: 9})], {0: 20, 1: 20}))
    assert not cut.passed(everything)  # offset 3 of the source is not processed
    cut.advance(seen(2.0, [({0: 4, 1: 5}, {0: 8, 1: 8}), ({0: 9}, {0: 11})], {0: 20, 1: 20}))
    assert not cut.passed(everything)  # what comes of it is in the second topic, and not processed there
    cut.advance(seen(3.0, [({0: 4, 1: 5}, {0: 8, 1: 8}), ({0: 11}, {0: 13})], {0: 22, 1: 20}))
    assert not cut.passed(results({0: 21, 1: 20}))
    assert not cut.passed(results({0: 22}))
    assert cut.passed(results({0: 22, 1: 20}))


def test_where_the_chain_begins_again_what_had_passed_has_to_pass_again() -> None:
    cut = Cut(1.0)
    cut.advance(seen(1.0, [({0: 4}, {0: 4})], {0: 60}))
    assert cut.passed(results({0: 60}))
    cut.begin_again()
    assert not cut.passed(results({0: 60}))
    cut.advance(seen(2.0, [({0: 0}, {0: 4})], {0: 60}))  # after a reset: nothing is counted yet
    assert not cut.passed(results({0: 60}))
    cut.advance(seen(3.0, [({0: 4}, {0: 4})], {0: 65}))
    assert cut.passed(results({0: 65}))


def test_one_look_is_enough_where_nothing_is_under_way() -> None:
    cut = Cut(1.0)
    cut.advance(seen(1.5, [({0: 4}, {0: 4}), ({0: 9}, {0: 9}), ({0: 2}, {0: 2})], {0: 5}))
    assert not cut.passed(results({0: 4}))
    assert cut.passed(results({0: 5}))


def test_what_was_seen_before_it_began_says_nothing() -> None:
    cut = Cut(2.0)
    cut.advance(seen(1.9, [({0: 4}, {0: 4})], {0: 5}))
    assert not cut.passed(results({0: 5}))


def test_results_of_an_open_transaction_are_waited_for_and_not_counted_as_lag() -> None:
    """The marker that commits an offset may come before the one that makes the results readable."""
    survey = seen(1.0, [({0: 4}, {0: 4})], written={0: 8}, stable={0: 5})
    cut = Cut(1.0)
    cut.advance(survey)
    assert not cut.passed(results({0: 5}))
    assert cut.passed(results({0: 8}))
    assert waiting(survey, results({0: 5})) == 0


def test_a_position_waits_for_its_partitions_alone() -> None:
    cut = Cut(1.0, Position(7, {1: 4}))
    cut.advance(seen(1.0, [({0: 0, 1: 4}, {0: 9, 1: 9})], {0: 1}))
    assert not cut.passed(results({0: 1}))
    cut.advance(seen(2.0, [({0: 0, 1: 5}, {0: 9, 1: 9})], {0: 1}))
    assert cut.passed(results({0: 1}))


@pytest.mark.parametrize(
    ("position", "reason"),
    [
        (Position(8, {0: 1}), "another topic"),
        (Position(7, {0: 4}), "offset 4 of partition 0"),  # the next record's
        (Position(7, {5: 0}), "offset 0 of partition 5"),
    ],
)
def test_a_position_that_the_topic_does_not_have_is_refused(position: Position, reason: str) -> None:
    with pytest.raises(BadPositionError, match=reason):
        Cut(1.0, position).advance(seen(1.0, [({0: 4}, {0: 4})], {0: 1}))


def test_a_topic_that_does_not_exist_yet_holds_nothing_up() -> None:
    cut = Cut(1.0)
    cut.advance(ChainSurvey(1.0, None, {}, [{}, {}], [{}, {}], {}, {}))
    assert cut.passed({})
    with pytest.raises(BadPositionError):
        Cut(1.0, Position(7, {0: 1})).advance(ChainSurvey(1.0, None, {}, [{}], [{}], {}, {}))


def test_the_lag_is_what_the_source_got_since_all_of_it_was_in_the_answer() -> None:
    passed = Cut(1.0)
    passed.advance(seen(1.0, [({0: 4, 1: 5}, {0: 4, 1: 5}), ({0: 9}, {0: 9})], {0: 20}))
    assert passed.passed(results({0: 20}))
    # What jobs tell each other while no events come is no lag.
    survey = seen(2.0, [({0: 4, 1: 5}, {0: 4, 1: 5}), ({0: 9}, {0: 17})], {0: 20})
    assert since(survey, {}, passed.source) == 0
    assert since(survey, {0: 3, 1: 4}, passed.source) == 0  # acknowledged before
    assert since(survey, {0: 5}, passed.source) == 2  # acknowledged since
    survey = seen(3.0, [({0: 4, 1: 5}, {0: 7, 1: 6, 2: 1}), ({0: 9}, {0: 17})], {0: 20})
    assert since(survey, {0: 5}, passed.source) == 3 + 1 + 1


def test_before_anything_is_known_to_have_passed_all_that_waits_is_the_lag() -> None:
    survey = seen(1.0, [({0: 3, 1: 5}, {0: 4, 1: 7}), ({0: 9}, {0: 10})], {0: 20, 1: 20})
    assert waiting(survey, results({0: 18, 1: 25})) == 1 + 2 + 1 + 2
    assert waiting(survey, {}) == 4 + 40


def test_a_job_that_was_reset_is_noticed() -> None:
    survey = seen(1.0, [({0: 4, 1: 5}, {0: 4, 1: 5})], {0: 20})
    before, on, back = (replace(survey, committed={("t", 0): 4, ("t", 1): at}) for at in (5, 6, 0))
    assert not went_back(before, on)
    assert went_back(before, back)
