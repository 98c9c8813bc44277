"""The description of a job's table, and of how to query it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from weir.infra.kafka.table_info import TableInfo
from weir.streams.engine.core.job import Job
from weir.streams.engine.keyed.job import Keyed
from weir.streams.engine.windowed.job import Windowed


def described(job: Job) -> TableInfo | None:
    """The job's table; None where it has none."""
    if job.table is None:
        return None
    names = _names(job)
    windows = isinstance(job, Windowed)
    parts = [re.sub(r"\W+", "_", name).strip("_") for name in names or ("part", "part")]
    return TableInfo(
        table=job.table.name,
        job=job.name,
        description=job.table.description,
        key=names,
        windows=windows,
        address=f"/tables/{job.table.name}/{'/'.join(f'{{{part}}}' for part in parts)}{'{?window}' if windows else ''}",
    )


def _names(job: Job) -> Sequence[str] | None:
    """The parts of a key by their names: the job's own, or those that its topic gives the key of a record."""
    assert job.table is not None
    if isinstance(job, Keyed):
        return [job.table.key]
    if isinstance(job, Windowed) and job.key is not None and not callable(job.key):
        return list(job.key)
    try:
        _, *names = msgspec.json.decode(job.table.key, type=list[str])  # the window's start comes first
    except (msgspec.DecodeError, ValueError):
        return None
    return names or None
