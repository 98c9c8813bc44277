"""A job drawn as text, and that what is said of who reads its topics is so."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import consumers
from consumers import client_view, metric_view
from consumers.link_tables import LINK_TABLES
from consumers.metric_tables import METRIC_TABLES
from consumers.readers import READERS, readers_of
from consumers.window_source import WindowSource
from infra.config import Config, load
from schemas.topics import TOPICS
from streams import links
from streams.engine.explain import explain
from streams.engine.job import Job
from streams.jobs import JOBS, make

LINKS = """\
links: count per key and window of 1m, written at every change; grace 5s, retention 10m
  under load, a transaction of each partition every 200ms
  keys are asked at /tables/link-counts

communications (8 partitions)
  └─ combine × 8
       ├─▶ links-partials (4 partitions), below
       └─▶ dead-letters, late-events: what is set aside

links-partials (4 partitions)
  └─ merge × 4
       table: in memory; changelog: link-counts
       ├─▶ link-counts (4 partitions) ─▶ link-store, reporter
       └─▶ link-windows (4 partitions) ─▶ link-store, reporter

relations (1 partition)
  └─ screen × 1
       view: held whole by every worker, and read before the events
       └─▶ dead-letters: what is set aside"""


def partitions(job: Job) -> dict[str, int]:
    return {topic.name: topic.partitions or 4 for topic in [*(task.topic for task in job.tasks), *job.writes]}


def test_the_links_job_is_drawn_with_its_topics_stages_table_and_sinks() -> None:
    job = links.job(Config())
    assert explain(job, partitions(job) | {"communications": 8}, readers_of) == LINKS


@pytest.mark.parametrize("name", JOBS)
def test_every_topic_of_every_job_is_in_its_drawing(name: str) -> None:
    job = make(name, load({}))
    drawn = explain(job, partitions(job), readers_of)
    for topic in partitions(job):
        assert f"{topic} (" in drawn


def test_the_reporter_reads_what_is_said_of_it() -> None:
    source = WindowSource(load({"WEIR_KAFKA": "127.0.0.1:1"}), "group")
    assert source._decoders.keys() == {topic.name for topic in READERS["reporter"]}
    source.close()


def test_sinks_and_views_read_what_is_said_of_them() -> None:
    assert READERS["link-store"] == [table.topic for table in LINK_TABLES]
    assert READERS["metric-store"] == [table.topic for table in METRIC_TABLES]
    assert READERS["monitoring"] == list(client_view.TOPICS)
    assert READERS["metrics"] == list(metric_view.TOPICS)


def test_no_other_consumer_names_a_topic_that_a_job_writes() -> None:
    written = {topic.name.upper().replace("-", "_") for topic in TOPICS if topic.owner.startswith("streams/")}
    named = set()
    for path in Path(consumers.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and written & {alias.name for alias in node.names}:
                named.add(path.stem)
    views = {"client_view", "metric_view"}
    assert named == {"link_tables", "metric_tables", "readers", "reporter", "window_source"} | views
