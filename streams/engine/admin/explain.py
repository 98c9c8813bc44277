"""A job drawn as text: what it reads, what each stage keeps and writes, and who reads that. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from weir.infra.config.settings import duration_text
from weir.schemas.topic import Topic
from weir.schemas.topics import DEAD_LETTERS, LATE_EVENTS
from weir.streams.engine.core.job import Job, TaskTopic
from weir.streams.engine.keyed.job import Keyed
from weir.streams.engine.windowed.job import Windowed


def explain(job: Job, counts: Mapping[str, int], readers: Callable[[Topic], list[str]]) -> str:
    """The drawing. `counts` gives the partitions of each topic, `readers` who else reads one."""
    return "\n".join(_lines(job, counts, readers))


def _lines(job: Job, counts: Mapping[str, int], readers: Callable[[Topic], list[str]]) -> Iterator[str]:
    def name(topic: Topic) -> str:
        number = counts[topic.name]
        return f"{topic.name} ({number} partition{'' if number == 1 else 's'})"

    yield f"{job.name}: {_what(job)}"
    yield f"  under load, a transaction of each partition every {duration_text(job.linger)}"
    if job.table is not None:
        yield f"  keys are asked at /tables/{job.table.name}"
    read = {task.topic.name for task in job.tasks}
    for task in job.tasks:
        yield ""
        yield name(task.topic)
        yield f"  └─ {task.stage} × {counts[task.topic.name]}"
        if job.view is not None and task.topic.name == job.view.topic.name:
            yield "       view: held whole by every worker, and read before the events"
        if task.changelog is not None:
            yield f"       table: {_store(job)}; changelog: {task.changelog.name}"
        to = []
        for topic in _written(job, task):
            sinks = ", ".join(readers(topic))
            to.append(name(topic) + (", below" if topic.name in read else "") + (f" ─▶ {sinks}" if sinks else ""))
        if refused := _refused_to(task):
            to.append(f"{refused}: events that are refused")
        for last, place in enumerate(to, 1 - len(to)):
            yield f"       {'├' if last else '└'}─▶ {place}"


def _refused_to(task: TaskTopic) -> str:
    """Returns the topics of the events that a stage refuses; a merge refuses none."""
    if task.stage == "merge":
        return ""
    return ", ".join([DEAD_LETTERS.name, LATE_EVENTS.name] if task.stage == "combine" else [DEAD_LETTERS.name])


def _written(job: Job, task: TaskTopic) -> list[Topic]:
    """Returns a stage's output topics: the next stage's topic, or all the others if the stage holds the table."""
    between = [topic for topic in job.writes if topic.name in {task.topic.name for task in job.tasks}]
    if task.changelog is not None:
        return [topic for topic in job.writes if topic not in between]
    return between if task.source else []


def _store(job: Job) -> str:
    store = getattr(job, "store", "memory")
    return "in memory" if store == "memory" else f"in {store}, under WEIR_HOME/state"


def _what(job: Job) -> str:
    if isinstance(job, Keyed):
        kept = f"kept {duration_text(job.ttl)} after the last change" if job.ttl is not None else "kept for ever"
        capacity = "" if job.capacity is None else f", {job.capacity} keys at most"
        return f"state per key of {job.source.name}, {kept}{capacity}"
    if not isinstance(job, Windowed):
        return f"reads {job.source.name}"
    values = ", ".join(job.aggregates) or "count"
    emitted = "when a window closes" if job.emits_on_close else "at every change"
    windows = job.windows
    return (
        f"{values} per key and {windows.description}, written {emitted}; "
        f"grace {duration_text(windows.grace)}, retention {duration_text(windows.retention)}"
    )
