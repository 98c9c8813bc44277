"""The way of the data from service to service, drawn from the registries: the topics that each reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weir.consumers import registry as consumers
from weir.infra.config import Config
from weir.schemas.topic import Topic
from weir.schemas.topics import TOPICS
from weir.services.registry import SERVICES
from weir.streams.jobs import registry as jobs

#: Writes to every topic that `producers` own: the way in is open.
ANYONE = "any Kafka client"


@dataclass(frozen=True)
class Flow:
    """One service, what it does, and the names of the topics it reads and writes; those inside a job are left out."""

    service: str
    description: str
    reads: Sequence[str]
    writes: Sequence[str]


def flows() -> list[Flow]:
    """Returns the flow of every service, in the order of `weir.services.registry.services`."""
    found = []
    for name in jobs.JOBS:
        job = jobs.make(name, Config())
        written = _names(job.writes)
        read = [topic for topic in _names([task.topic for task in job.tasks]) if topic not in written]
        found.append(Flow(f"worker-{name}", jobs.JOBS.description(name), read, written))
    for name, tables in consumers.tables(Config()).items():
        found.append(Flow(name, consumers.SINKS.description(name), _names([table.topic for table in tables]), []))
    found.extend(Flow(one.name, one.description, _names(one.reads), _names(one.writes)) for one in SERVICES)
    return found


def drawing() -> list[str]:
    """Returns a line for each topic that is not internal: who writes it, its name, and who reads it."""
    every = flows()
    rows = []
    for topic in TOPICS:
        if topic.internal:
            continue
        writers = [flow.service for flow in every if topic.name in flow.writes]
        if topic.owner == "producers":
            writers.append(ANYONE)
        if not writers:
            writers.append(topic.owner)
        rows.append((", ".join(writers), topic.name, ", ".join(f.service for f in every if topic.name in f.reads)))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    arrows = ((f"{w.rjust(widths[0])} ──▶ {name.ljust(widths[1])}", readers) for w, name, readers in rows)
    return [f"{left} ──▶ {readers}" if readers else left.rstrip() for left, readers in arrows]


def _names(found: Sequence[Topic]) -> list[str]:
    return list(dict.fromkeys(topic.name for topic in found if not topic.internal))
