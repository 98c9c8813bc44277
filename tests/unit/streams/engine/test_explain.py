"""A job drawn as text, and that what is said of who reads its topics is so."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from weir import consumers
from weir.consumers.feed.source import WindowSource
from weir.consumers.links.tables import LINK_TABLES
from weir.consumers.metrics import revisions as metric_view
from weir.consumers.metrics.tables import METRIC_TABLES
from weir.consumers.monitoring import view as client_view
from weir.consumers.registry import readers, readers_of
from weir.infra.config import Config, load
from weir.schemas.topics import TOPICS
from weir.streams.engine.admin.explain import explain
from weir.streams.engine.core.job import Job
from weir.streams.jobs import links
from weir.streams.jobs.registry import JOBS, make

LINKS = """\
links: count per key and window of 1m, written at every change; grace 5s, retention 10m
  under load, a transaction of each partition every 200ms
  keys are asked at /tables/link-counts

communications (8 partitions)
  └─ combine × 8
       ├─▶ links-partials (4 partitions), below
       └─▶ dead-letters, late-events: events that are refused

links-partials (4 partitions)
  └─ merge × 4
       table: in memory; changelog: link-counts
       ├─▶ link-counts (4 partitions) ─▶ link-store, reporter
       └─▶ link-windows (4 partitions) ─▶ link-store, reporter

relations (1 partition)
  └─ validate × 1
       view: held whole by every worker, and read before the events
       └─▶ dead-letters: events that are refused"""


def partitions(job: Job) -> dict[str, int]:
    return {topic.name: topic.partitions or 4 for topic in [*(task.topic for task in job.tasks), *job.writes]}


def test_the_links_job_is_drawn_with_its_topics_stages_table_and_sinks() -> None:
    job = links.job(Config())
    assert explain(job, partitions(job) | {"communications": 8}, readers_of) == LINKS


@pytest.mark.parametrize("name", list(JOBS))
def test_every_topic_of_every_job_is_in_its_drawing(name: str) -> None:
    job = make(name, load({}))
    drawn = explain(job, partitions(job), readers_of)
    for topic in partitions(job):
        assert f"{topic} (" in drawn


def test_the_reporter_reads_what_is_said_of_it() -> None:
    source = WindowSource(load({"WEIR_KAFKA": "127.0.0.1:1"}), "group")
    assert source._decoders.keys() == {topic.name for topic in readers()["reporter"]}
    source.close()


def test_sinks_and_views_read_what_is_said_of_them() -> None:
    assert readers()["link-store"] == [table.topic for table in LINK_TABLES]
    assert readers()["metric-store"] == [table.topic for table in METRIC_TABLES]
    assert readers()["monitoring"] == list(client_view.TOPICS)
    assert readers()["metrics"] == list(metric_view.TOPICS)


def test_no_other_consumer_names_a_topic_that_a_job_writes() -> None:
    written = {topic.name.upper().replace("-", "_") for topic in TOPICS if topic.owner.startswith("streams/")}
    named = set()
    root = Path(consumers.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and written & {alias.name for alias in node.names}:
                named.add(str(path.relative_to(root)))
    readers = {"registry.py", "links/tables.py", "metrics/tables.py", "feed/reporter.py", "feed/source.py"}
    assert named == readers | {"monitoring/view.py", "metrics/revisions.py"}
