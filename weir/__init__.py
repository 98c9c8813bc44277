"""weir: exact, fast stream processing on Kafka.

Jobs, topics and sinks are written with what is here: `import weir`, or `from weir import Topic, Windowed`. A job is one
file (`weir.streams.jobs.links` is one); docs/tutorial/add-a-count.md writes another. What this module names is stable;
everything below `weir.` is weir's inside.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weir.app import App
    from weir.consumers.sinks.table import Conflict, Reference, Rollup, Table
    from weir.infra.config import Config
    from weir.schemas.topic import Topic
    from weir.streams.api import (
        Aggregate,
        Avg,
        Context,
        Count,
        Distinct,
        Emit,
        HoppingWindows,
        Job,
        Key,
        Keyed,
        Max,
        Min,
        PoisonError,
        Quantiles,
        Reason,
        Record,
        SessionWindows,
        State,
        Sum,
        TumblingWindows,
        View,
        Windowed,
        window,
    )

#: Where each name is. A name is imported when it is first used, so that `weir --help` loads no engine.
_PLACES = {
    "App": "weir.app",
    "Conflict": "weir.consumers.sinks.table",
    "Reference": "weir.consumers.sinks.table",
    "Rollup": "weir.consumers.sinks.table",
    "Table": "weir.consumers.sinks.table",
    "Config": "weir.infra.config",
    "Topic": "weir.schemas.topic",
}

__all__ = [
    "Aggregate",
    "App",
    "Avg",
    "Config",
    "Conflict",
    "Context",
    "Count",
    "Distinct",
    "Emit",
    "HoppingWindows",
    "Job",
    "Key",
    "Keyed",
    "Max",
    "Min",
    "PoisonError",
    "Quantiles",
    "Reason",
    "Record",
    "Reference",
    "Rollup",
    "SessionWindows",
    "State",
    "Sum",
    "Table",
    "Topic",
    "TumblingWindows",
    "View",
    "Windowed",
    "window",
]


def __getattr__(name: str) -> object:
    """Imports a public name (PEP 562). Raises AttributeError for any other."""
    if name not in __all__:
        raise AttributeError(f"module 'weir' has no attribute {name!r}")
    value = getattr(import_module(_PLACES.get(name, "weir.streams.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
