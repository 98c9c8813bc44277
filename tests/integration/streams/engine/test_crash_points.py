"""A worker that crashes at each step of a flush, and while it restores, on each stage: the counts are exact.

All of them crash at the same time, each with topics of its own: what takes long is waiting for the sessions to end.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from support.links.communications import Source
from support.wait import until
from support.workers import Results, workers
from weir.infra import config as configuration
from weir.infra.config import Config
from weir.infra.kafka.client import ensure_topics
from weir.schemas.topics import COMMUNICATIONS, LINKS_PARTIALS
from weir.streams.engine.core.crash_points import CRASHED, STEPS, arm

STAGES = (COMMUNICATIONS.name, LINKS_PARTIALS.name)
#: The third flush of any task: some cells are written already. A restore comes once for each partition.
PLACES = [(step, topic, 2 if step == "restore" else 3) for step in STEPS for topic in STAGES]
#: The first transaction of all: nothing is committed, and yet there are records in the topics.
PLACES += [("before-commit", topic, 1) for topic in STAGES]
Place = tuple[str, str, int]
Outcome = tuple[Results, Source, str]


def crash(kafka: str, home: Path, step: str, topic: str, times: int) -> Outcome:
    """A worker that counts, crashes at the step, and is started again; what it has counted by then."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    own = {
        "WEIR_HOME": str(home),
        "WEIR_KAFKA": kafka,
        "WEIR_TOPIC_PREFIX": f"t{uuid.uuid4().hex[:8]}-",
        "WEIR_PARTITIONS": "1" if times == 1 else "2",
    }
    config: Config = configuration.load(own)
    ensure_topics(config)
    home.mkdir(parents=True)
    source, results = Source(config, seed=STEPS.index(step)), Results(config)
    source.send(500)
    with workers(inherited | own, home) as fleet:
        if step == "restore":  # there must be something to restore
            first = fleet.start()
            until(lambda: results.merged >= source.sent)
            fleet.kill(first)
        victim = fleet.start("--crash-at", f"{step}:{topic}:{times}")
        until(lambda: victim.poll() is not None, lambda: source.send(50) if source.sent < 5_000 else None)
        assert victim.returncode == CRASHED, fleet.logs()
        fleet.running.clear()
        fleet.start()
        until(lambda: results.merged >= source.sent)
        return results, source, fleet.logs()


@pytest.fixture(scope="module")
def crashes(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Place, Future[Outcome]]]:
    home = tmp_path_factory.mktemp("crashes")
    with ThreadPoolExecutor(len(PLACES)) as pool:
        yield {place: pool.submit(crash, kafka, home / "-".join(map(str, place)), *place) for place in PLACES}


@pytest.mark.parametrize("place", PLACES, ids=lambda place: "-".join(map(str, place)))
def test_a_crash_costs_no_count(place: Place, crashes: dict[Place, Future[Outcome]]) -> None:
    results, source, logs = crashes[place].result()
    assert results.counts() == source.expected, logs
    assert results.routed.accepted == source.sent


@pytest.mark.parametrize("place", ["nowhere:communications:1", "restore:communications:0", "restore:communications"])
def test_a_place_that_is_none_is_refused(place: str) -> None:
    with pytest.raises(ValueError, match=r"STEP is one of|not enough values"):
        arm(place)
