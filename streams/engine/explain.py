"""A job drawn as text: what it reads, what each stage keeps and writes, and who reads that. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from infra.config import duration_text
from schemas.topic import Topic
from schemas.topics import DEAD_LETTERS, LATE_EVENTS
from streams.engine.job import Job, TaskTopic
from streams.engine.keyed import Keyed
from streams.engine.windowed import Windowed
from streams.engine.windows import HoppingWindows, SessionWindows, TumblingWindows


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
        if aside := _aside(task):
            to.append(f"{aside}: what is set aside")
        for last, place in enumerate(to, 1 - len(to)):
            yield f"       {'├' if last else '└'}─▶ {place}"


def _aside(task: TaskTopic) -> str:
    """Where a stage sends what cannot be processed; partial results always can."""
    if task.stage == "merge":
        return ""
    return ", ".join([DEAD_LETTERS.name, LATE_EVENTS.name] if task.stage == "combine" else [DEAD_LETTERS.name])


def _written(job: Job, task: TaskTopic) -> list[Topic]:
    """What a stage writes: the topic that the next one reads, or, where it holds the table, all the rest."""
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
        most = "" if job.capacity is None else f", {job.capacity} keys at most"
        return f"state per key of {job.source.name}, {kept}{most}"
    if not isinstance(job, Windowed):
        return f"reads {job.source.name}"
    values = ", ".join(job.aggregates) or "count"
    emitted = "when a window closes" if job.emits_on_close else "at every change"
    windows = job.windows
    return (
        f"{values} per key and {_windows(windows)}, written {emitted}; "
        f"grace {duration_text(windows.grace)}, retention {duration_text(windows.retention)}"
    )


def _windows(windows: object) -> str:
    if isinstance(windows, SessionWindows):
        return f"session with gaps of {duration_text(windows.gap)} at most"
    if isinstance(windows, HoppingWindows):
        return f"window of {duration_text(windows.size)} every {duration_text(windows.advance)}"
    assert isinstance(windows, TumblingWindows)
    return f"window of {duration_text(windows.size)}"
