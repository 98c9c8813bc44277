"""`weir.App`: what a package of a user's own adds to weir."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from weir.consumers.sinks.table import Table
from weir.infra.config import Config
from weir.schemas.topic import Topic
from weir.streams.engine.core.job import Job


@dataclass(frozen=True, kw_only=True)
class App:
    """Jobs, sinks and topics of a package. `WEIR_APPS=mypackage.pages` loads `mypackage.pages.app`.

    `jobs`: functions of the configuration that give a job, by the job's name. `stores`: functions of the configuration
    that give the tables of a sink, by the sink's name, which ends in `-store`; a table that is not in Postgres yet is
    made from its declaration. `topics`: those that no job and no sink of the app names. The first sentence of a
    function's docstring describes its job or sink, as in `weir run --help`.
    """

    jobs: Mapping[str, Callable[[Config], Job]] = field(default_factory=dict)
    stores: Mapping[str, Callable[[Config], Sequence[Table]]] = field(default_factory=dict)
    topics: Sequence[Topic] = ()
