"""All that a job is written with: `streams/links.py` is one. How to write another: docs/tutorial/add-a-count.md."""

from schemas.dead_letters import Reason
from schemas.errors import PoisonError
from schemas.topic import Topic
from streams.engine.aggregates import Aggregate, Avg, Count, Distinct, Max, Min, Quantiles, Sum
from streams.engine.aggregation import Key
from streams.engine.job import Job, View
from streams.engine.keyed import Keyed
from streams.engine.keyed_context import Context
from streams.engine.records import Record
from streams.engine.rows import State, window
from streams.engine.windowed import Emit, Windowed
from streams.engine.windows import HoppingWindows, SessionWindows, TumblingWindows

#: In the order of the reference.
__all__ = [
    "Aggregate",
    "Avg",
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
    "SessionWindows",
    "State",
    "Sum",
    "Topic",
    "TumblingWindows",
    "View",
    "Windowed",
    "window",
]
