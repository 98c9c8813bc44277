"""The benchmarks print their figures: run small, since only what they print is asked here, not how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.long

#: A peer as the benchmark calls it: it is told where the topic is, and prints events per second.
PEER = "{python} -c print(float({{events}}),'events/s') {{bootstrap}} {{topic}}"


def run(environ: dict[str, str], name: str, *options: str) -> dict[str, Any]:
    """The JSON that a benchmark prints last."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *options],
        env=environ,
        capture_output=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_links_prints_events_per_second_at_both_levels_beside_the_bare_loop_and_a_peer(environ: dict[str, str]) -> None:
    found = run(environ, "links", "--events", "20000", "--peer", "one=" + PEER.format(python=sys.executable))
    assert found["events"] == 20_000
    figures = found["figures"]
    assert set(figures) == {"bare", "one", "weir pair 200ms 1", "weir parent 200ms 1"}
    assert figures["bare"]["events_per_s"] > 0
    assert figures["one"]["events_per_s"] == 20_000
    for level in ("pair", "parent"):
        assert figures[f"weir {level} 200ms 1"]["in_results"] == 20_000
        assert figures[f"weir {level} 200ms 1"]["times_bare"] > 0
    assert figures["weir pair 200ms 1"]["times_one"] > 0
    assert "times_one" not in figures["weir parent 200ms 1"]


def test_latency_finds_the_result_of_every_probe(environ: dict[str, str]) -> None:
    found = run(environ, "latency", "--rate", "1000", "--seconds", "1", "--warmup", "1")
    assert found["probes"] == 100
    assert found["lost"] == 0
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["max"]


def test_memory_samples_the_worker_while_it_counts(environ: dict[str, str]) -> None:
    found = run(environ, "memory", "--minutes", "0.05", "--rate", "1000", "--live", "1100")
    assert found["live_cells"] == 1_100
    assert found["rss_mb"]["max"] > 0


def test_restart_restores_what_the_killed_worker_had(environ: dict[str, str]) -> None:
    found = run(environ, "restart", "--cells", "10000")
    assert found["cells"] == 10_000
    assert found["assigned_to_first_commit_s"] > 0


def test_growth_draws_what_it_prints(environ: dict[str, str], tmp_path: Path) -> None:
    plot = tmp_path / "growth.svg"
    options = ["--events", "20000", "--keys", "1000", "--partitions", "4", "--plot", str(plot)]
    found = run(environ, "growth", *options)
    assert [point["partitions"] for point in found["partitions"]] == [4]
    drawn = ElementTree.fromstring(plot.read_text()).iter("{http://www.w3.org/2000/svg}circle")
    assert len(list(drawn)) == 2 * 2


def test_listener_stands_beside_an_echo_of_the_same_server(environ: dict[str, str]) -> None:
    found = run(environ, "listener", "--seconds", "0.5", "--rounds", "1", "--connections", "2", "--window", "10")
    assert set(found["messages_per_s"]) == {"echo", "listener", "picows"}
    assert min(found["messages_per_s"].values()) > 0
    assert found["listener_of_echo"] > 0


def test_metrics_stands_beside_the_bare_loop(environ: dict[str, str]) -> None:
    figures = run(environ, "metrics", "--events", "20000", "--types", "5", "--stamps", "text")["figures"]
    assert set(figures) == {"bare", "weir 1"}
    assert figures["weir 1"]["times_bare"] > 0


def test_metrics_at_a_rate_says_what_an_event_takes_and_what_the_worker_holds(environ: dict[str, str]) -> None:
    found = run(environ, "metrics", "--sustain", "2", "--rate", "1000", "--types", "3", "--past", "10")
    assert found["per_event"]["slices"] > 0
    assert 0 < found["per_event"]["process_us"]["p50"] <= found["per_event"]["polled_to_done_ms"]["max"] * 1000
    assert found["rss_mb"]["max"] > 0


def test_metrics_processor_stands_beside_a_bare_loop_and_other_ways(environ: dict[str, str]) -> None:
    found = run(environ, "metrics_processor", "--events", "20000", "--repeat", "1")["ways"]
    assert set(found) == {"bare", "processor", "processor, read"}
    ways = run(environ, "metrics_processor", "--events", "5000", "--repeat", "1", "--ways")["ways"]
    assert len(ways) == 6
    assert all(one["events_per_s"] > 0 and one["p50"] <= one["p99"] <= one["max"] for one in [*ways.values()])


def test_sketches_are_held_against_exact_figures(environ: dict[str, str]) -> None:
    found = run(environ, "sketches", "--values", "100000")
    assert 0 <= found["rank_error"]["worst"] < 0.02
    assert 0 <= found["distinct_error"]["worst"] < 0.05


def test_broadcast_delivers_to_each_once_and_counts_those_that_never_read(environ: dict[str, str]) -> None:
    small = ["--subscribers", "20", "--rate", "50", "--seconds", "1"]
    found = run(environ, "broadcast", *small, "--never-read", "10")
    assert (found["received"], found["lost"], found["twice"], found["cut_off"]) == (1_000, 0, 0, 0)
    assert 0 < found["p50"] <= found["p99"] <= found["max"]
    assert found["rss_kb_per_connection"] is not None


def test_broadcast_loses_nothing_through_a_kill(environ: dict[str, str]) -> None:
    found = run(environ, "broadcast", "--subscribers", "20", "--rate", "50", "--seconds", "2", "--kill")
    assert (found["received"], found["lost"], found["twice"], found["not_recovered"]) == (2_000, 0, 0, 0)
    assert found["back_after_s"] >= 0


def test_broadcast_prints_the_share_of_a_bare_loop_of_the_same_library(environ: dict[str, str]) -> None:
    small = ["--subscribers", "5", "--rate", "20", "--seconds", "0.5", "--limit-ms", "10000", "--steps", "1"]
    found = run(environ, "broadcast", "--sustain", *small)
    assert found["deliveries_per_s"] == {"broadcaster": 140, "weir": 140, "picows": 140}
    assert found["broadcaster_of_bare"] == {"weir": 1.0, "picows": 1.0}


def test_bare_loops_are_measured_alone(environ: dict[str, str]) -> None:
    found = run(environ, "broadcast", "--bare", "weir", "picows", "aiohttp", "--subscribers", "5", "--seconds", "1")
    assert (found["library"], found["received"], found["lost"]) == ("aiohttp", 50, 0)


def test_stores_prints_a_line_for_each_store() -> None:
    command = [sys.executable, "-m", "benchmarks.stores", "--cells", "22000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    lines = [line.split() for line in done.stdout.splitlines()[2:]]
    assert [line[0] for line in lines] == ["memory", "rocksdb"]
    assert all(float(figure) > 0 for line in lines for figure in line[1:4])
