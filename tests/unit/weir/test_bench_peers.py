"""The checks and notes beside a figure of the links benchmark: right results, and what a peer leaves out."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.links import Figures, compared, parents, ratios, rolled_up, table
from benchmarks.peers import PEERS, Peer, check

SENT = {("a", "b"): 2, ("b", "a"): 1}


@pytest.mark.parametrize("found", [{("a", "b"): 2}, SENT | {("a", "b"): 3}, SENT | {("c", "a"): 1}])
def test_a_pair_that_is_missing_or_counted_wrong_or_never_sent_ends_the_benchmark(
    found: dict[tuple[str, str], int],
) -> None:
    with pytest.raises(SystemExit, match="one counted 1 pairs wrong"):
        check(found, SENT, True, "one")


def test_a_peer_that_stops_before_its_last_commit_may_have_counted_too_few_and_never_too_many() -> None:
    assert check(SENT, SENT, True, "one") == 3
    assert check({("a", "b"): 1}, SENT, False, "one") == 1
    with pytest.raises(SystemExit, match="not 2"):
        check({("a", "b"): 3}, SENT, False, "one")


def test_counts_per_pair_roll_up_to_those_of_the_parents() -> None:
    assert rolled_up(SENT, {"a": "p", "b": "p"}) == Counter({("p", "p"): 3})
    assert rolled_up(SENT, parents(["a", "b"], "pair", 1)) == Counter(SENT)


def test_peers_stand_beside_the_pairs_that_they_count_as_well_and_never_beside_parents() -> None:
    peers = {"one": Peer("", "two threads, one commit", "its results, its start", "all"), "two": Peer("")}
    figures: dict[str, Figures] = {
        "bare": {"events_per_s": 400_000.0},
        "one": {"events_per_s": 100_000.0, "in_results": 3},
        "two": {"events_per_s": 50_000.0},
        "weir pair 1s 2": {"events_per_s": 200_000.0, "in_results": 3},
        "weir parent 1s 1": {"events_per_s": 300_000.0, "in_results": 3},
    }
    compared(figures, peers)
    assert (figures["weir pair 1s 2"]["times_one"], figures["weir pair 1s 2"]["times_two"]) == (2.0, 4.0)
    assert figures["weir parent 1s 1"] == {"events_per_s": 300_000.0, "in_results": 3, "times_bare": 0.75}
    lines = table(figures, peers, 3)
    assert lines[3] == "| one: two threads, one commit | 100 000 | 0.25 | right | its results, its start |"
    assert "none to check" in lines[4]
    assert lines[5].startswith(
        "| weir, per pair, linger 1s, 2 workers, exactly once into Kafka | 200 000 | 0.50 | right |"
    )
    assert [line.split(" | ")[0] for line in ratios(figures, peers)[2:]] == ["| weir pair 1s 2"]


def test_every_peer_says_what_its_figure_leaves_out() -> None:
    assert all(peer.leaves_out and peer.configuration for peer in PEERS.values())
    assert {label: peer.results for label, peer in PEERS.items()} == {
        "clink": "all", "flink-sql": "all", "ks-1000": "some", "ks-200": "some", "flink": "none",
    }  # fmt: skip
