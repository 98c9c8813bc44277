"""Windows put together from records that are read apart: when they are whole, revised, forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from weir.consumers.feed.assembler import At, WindowAssembler
from weir.schemas.links import Link, LinkCount, WindowSummary
from weir.schemas.times import to_rfc3339
from weir.schemas.topic import PartitionId
from weir.schemas.windows import Window, WindowClosed

MINUTE = 60_000
HORIZON = 12 * MINUTE


def window(number: int) -> Window:
    return Window(to_rfc3339(number * MINUTE), to_rfc3339((number + 1) * MINUTE))


@dataclass
class Reader:
    """Feeds an assembler, counting offsets as it goes."""

    assembler: WindowAssembler
    offsets: dict[PartitionId, int] = field(default_factory=dict)

    def at(self, topic: str, partition: int, **known: bool) -> At:
        offset = self.offsets[topic, partition] = self.offsets.get((topic, partition), -1) + 1
        return At((topic, partition), offset, **known)

    def count(self, partition: int, number: int, pair: str, count: int, final: bool = True, **known: bool) -> None:
        record = LinkCount(window(number), pair[0], pair[1], count, final)
        self.assembler.count(self.at("counts", partition, **known), record)

    def closed(self, partition: int, number: int, cells: int, partitions: int = 2, **known: bool) -> None:
        record = WindowClosed(window(number), partition, partitions, cells)
        self.assembler.closed(self.at("windows", partition, **known), record)

    def take(self) -> list[tuple[str, dict[str, int]]]:
        return [
            (summary.window.start, {link.source + link.destination: link.count for link in summary.links})
            for summary in self.assembler.take()
        ]


def reader(partitions: int = 2) -> Reader:
    return Reader(WindowAssembler(range(partitions), HORIZON))


def start(number: int) -> str:
    return window(number).start


def test_a_window_is_whole_once_every_partition_closed_it_and_all_its_final_counts_came() -> None:
    r = reader()
    r.closed(0, 0, cells=2)
    r.closed(1, 0, cells=0)
    r.count(0, 0, "ab", 3)
    assert r.take() == []
    r.count(0, 0, "cd", 1)
    assert r.take() == [(start(0), {"ab": 3, "cd": 1})]
    assert r.take() == []


def test_more_counts_in_one_partition_do_not_make_up_for_missing_ones_in_another() -> None:
    r = reader()
    r.closed(0, 0, cells=1)
    r.closed(1, 0, cells=1)
    r.count(0, 0, "ab", 3)
    r.count(0, 0, "cd", 1)
    assert r.take() == []


def test_a_count_that_is_not_final_says_nothing() -> None:
    r = reader()
    r.closed(0, 0, cells=1)
    r.closed(1, 0, cells=0)
    r.count(0, 0, "ab", 3, final=False)
    assert r.take() == []


def test_links_are_sorted_whatever_order_they_came_in() -> None:
    r = reader(1)
    for pair in ("ba", "bb", "aa", "ab"):
        r.count(0, 0, pair, 1)
    r.closed(0, 0, cells=4, partitions=1)
    [summary] = r.assembler.take()
    assert summary == WindowSummary(window(0), [Link(a, b, 1) for a, b in ("aa", "ab", "ba", "bb")])


def test_an_empty_window_is_reported_too() -> None:
    r = reader()
    r.closed(1, 0, cells=0)
    r.closed(0, 0, cells=0)
    assert r.take() == [(start(0), {})]


def test_windows_come_in_the_order_of_their_start() -> None:
    r = reader(1)
    for number in (2, 0, 1):
        r.closed(0, number, cells=0, partitions=1)
    assert r.take() == [(start(0), {}), (start(1), {}), (start(2), {})]


def test_all_revisions_since_the_last_take_give_one_summary_and_the_same_count_again_gives_none() -> None:
    r = reader(1)
    r.count(0, 0, "ab", 3)
    r.closed(0, 0, cells=1, partitions=1)
    assert r.take() == [(start(0), {"ab": 3})]
    r.count(0, 0, "ab", 4)
    r.count(0, 0, "cd", 1)
    assert r.take() == [(start(0), {"ab": 4, "cd": 1})]
    r.count(0, 0, "ab", 4)
    assert r.take() == []


def test_what_an_earlier_run_has_reported_is_known_and_not_reported_again() -> None:
    r = reader(1)
    r.count(0, 0, "ab", 3, reported=True)
    r.closed(0, 0, cells=1, partitions=1, reported=True)
    assert r.take() == []
    r.count(0, 0, "cd", 1)
    assert r.take() == [(start(0), {"ab": 3, "cd": 1})]


def test_a_window_that_was_half_read_by_an_earlier_run_is_reported() -> None:
    r = reader()
    r.count(0, 0, "ab", 3, reported=True)
    r.closed(0, 0, cells=1, reported=True)
    r.closed(1, 0, cells=0)
    assert r.take() == [(start(0), {"ab": 3})]


def test_a_window_that_was_closed_before_the_first_start_is_not_reported_even_if_revised() -> None:
    r = reader(1)
    r.count(0, 0, "ab", 3, reported=True, ours=False)
    r.closed(0, 0, cells=1, partitions=1, reported=True, ours=False)
    r.count(0, 0, "ab", 4)
    assert r.take() == []


def test_a_window_that_was_open_at_the_first_start_is_reported_with_all_its_cells() -> None:
    r = reader()
    r.count(0, 0, "ab", 3, reported=True, ours=False)
    r.closed(0, 0, cells=1, reported=True, ours=False)
    r.closed(1, 0, cells=0)
    assert r.take() == [(start(0), {"ab": 3})]


def test_a_reported_window_is_forgotten_once_every_partition_is_past_its_horizon() -> None:
    r = reader(2)
    for partition in (0, 1):
        r.closed(partition, 0, cells=0)
    assert r.take() == [(start(0), {})]
    for partition in (0, 1):
        r.assembler.at_end(partition)
    r.closed(0, 12, cells=0)
    assert r.assembler.forget(0.0) == []
    assert len(r.assembler) == 2  # the other partition may still revise it
    r.closed(1, 12, cells=0)
    r.assembler.forget(0.0)
    r.take()
    assert len(r.assembler) == 1
    assert r.assembler.needed() == {("windows", 0): 1, ("windows", 1): 1}


def test_a_window_is_kept_while_a_partition_has_not_been_read_so_far() -> None:
    r = reader(1)
    r.count(0, 0, "ab", 1)
    for number in range(20):
        r.closed(0, number, cells=1, partitions=1)
    assert r.take() == [(start(0), {"ab": 1})]
    r.assembler.forget(0.0)
    r.count(0, 0, "ab", 2)
    assert r.take() == [(start(0), {"ab": 2})]


def test_a_window_that_never_becomes_whole_is_given_up_after_the_patience() -> None:
    r = reader(1)
    r.closed(0, 0, cells=1, partitions=1)
    r.assembler.at_end(0)
    assert r.assembler.forget(0.0) == []
    r.closed(0, 20, cells=0, partitions=1)
    assert r.assembler.forget(1000.0) == []
    assert r.assembler.forget(1599.0) == []
    assert r.assembler.forget(1600.0) == [window(0)]
    assert ("counts", 0) not in r.assembler.needed()


def test_a_window_that_lacks_a_partition_is_waited_for_while_that_partition_stands_still() -> None:
    r = reader()
    for number in range(100):
        r.closed(0, number, cells=0)
        r.assembler.at_end(0)
        r.assembler.at_end(1)
        assert r.assembler.forget(number * 1e6) == []
    for number in range(100):
        r.closed(1, number, cells=0)
    assert len(r.take()) == 100


def test_a_window_announced_long_after_its_time_stays_revisable_for_a_horizon() -> None:
    r = reader(1)
    r.closed(0, 100, cells=0, partitions=1)
    r.assembler.at_end(0)
    r.closed(0, 0, cells=1, partitions=1)
    r.count(0, 0, "ab", 1)
    r.assembler.at_end(0)
    assert r.take() == [(start(0), {"ab": 1}), (start(100), {})]
    r.assembler.forget(0.0)
    r.count(0, 0, "ab", 2)
    r.assembler.at_end(0)
    assert r.take() == [(start(0), {"ab": 2})]


Log = list[LinkCount | WindowClosed]


def history(random: Random, partitions: int, windows: int) -> tuple[dict[PartitionId, Log], dict[str, dict[str, int]]]:
    """Returns logs like the links job's: each partition's windows closed in order, some revised within three."""
    logs: dict[PartitionId, Log] = {}
    truth: dict[str, dict[str, int]] = {start(number): {} for number in range(windows)}
    for partition in range(partitions):
        counts: Log = logs.setdefault(("counts", partition), [])
        closings: Log = logs.setdefault(("windows", partition), [])
        for number in range(windows):
            pairs = random.sample("abcdef", random.randrange(4))
            for pair in pairs:
                for final in (False, True):
                    truth[start(number)][f"{partition}{pair}"] = count = random.randrange(100)
                    counts.append(LinkCount(window(number), str(partition), pair, count, final))
            closings.append(WindowClosed(window(number), partition, partitions, len(pairs)))
            for _ in range(random.randrange(3)):
                old, pair = max(0, number - random.randrange(4)), random.choice("abcdef")
                truth[start(old)][f"{partition}{pair}"] = count = random.randrange(100)
                counts.append(LinkCount(window(old), str(partition), pair, count, True))
    return logs, truth


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), partitions=st.integers(1, 4), windows=st.integers(1, 40), stops=st.integers(0, 4))
def test_whatever_the_order_of_reading_and_the_restarts_the_last_summary_of_each_window_is_the_truth(
    seed: int, partitions: int, windows: int, stops: int
) -> None:
    random = Random(seed)
    logs, truth = history(random, partitions, windows)
    heard: dict[str, dict[str, int]] = {}
    said = 0
    reported = dict.fromkeys(logs, 0)
    restart_from = dict.fromkeys(logs, 0)
    for run in range(stops + 1):
        assembler = WindowAssembler(range(partitions), HORIZON)
        position = dict(restart_from)
        last = run == stops
        steps = random.randrange(1, 60)
        while last or steps:
            steps -= 1
            place = random.choice(list(logs))
            for _ in range(random.randrange(1, 30)):
                if position[place] < len(logs[place]):
                    offset, position[place] = position[place], position[place] + 1
                    record = logs[place][offset]
                    at = At(place, offset, reported=offset < reported[place])
                    if isinstance(record, LinkCount):
                        assembler.count(at, record)
                    else:
                        assembler.closed(at, record)
            if place[0] == "counts" and position[place] == len(logs[place]):
                assembler.at_end(place[1])
            assert assembler.forget(0.0) == []
            if all(position[place] >= reported[place] for place in logs):
                for summary in assembler.take():
                    said += 1
                    heard[summary.window.start] = {link.source + link.destination: link.count for link in summary.links}
                reported = dict(position)
                restart_from = {p: min(assembler.needed().get(p, position[p]), position[p]) for p in logs}
            if last and all(position[place] == len(logs[place]) for place in logs):
                break
    # Every commit follows its take here, so nothing is repeated unless something changed.
    revisions = sum(isinstance(record, LinkCount) for log in logs.values() for record in log)
    assert heard == truth
    assert said <= windows + revisions
    assert len(assembler) <= windows


def test_memory_is_bounded_by_the_horizon_however_long_it_runs() -> None:
    r = reader(2)
    for number in range(500):
        for partition in (0, 1):
            r.count(partition, number, "ab", 1)
            r.closed(partition, number, cells=1)
            r.assembler.at_end(partition)
        assert len(r.take()) == 1
        r.assembler.forget(float(number))
        assert len(r.assembler) <= HORIZON // MINUTE + 1
        assert all(number - offset <= HORIZON // MINUTE for offset in r.assembler.needed().values())
