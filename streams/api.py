"""The names that a job is written with. `streams/jobs/links.py` is a job; docs/tutorial/add-a-count.md adds another."""

from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.topic import Topic
from weir.streams.engine.aggregates.aggregates import Aggregate, Avg, Count, Distinct, Max, Min, Quantiles, Sum
from weir.streams.engine.aggregates.aggregation import Key
from weir.streams.engine.core.job import Job, View
from weir.streams.engine.core.records import Record
from weir.streams.engine.keyed.context import Context
from weir.streams.engine.keyed.job import Keyed
from weir.streams.engine.windowed.job import Windowed
from weir.streams.engine.windowed.results import State, window
from weir.streams.engine.windowed.spec import Emit
from weir.streams.engine.windowed.windows import HoppingWindows, SessionWindows, TumblingWindows

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
