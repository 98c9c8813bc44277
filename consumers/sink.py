"""A sink: topics into Postgres tables, every record with its effect exactly once.

Nothing is remembered here: where to go on stands in Postgres beside the rows, and moves in the transaction that
stores them. So whatever fails, the sink lets everything go, waits, and opens again from there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from consumers.batch import Batch, Batcher, Place
from consumers.refusals import Refusals
from consumers.sink_source import Source
from consumers.sink_store import SinkStore
from consumers.tables import Table
from infra import kafka, log, postgres
from infra.backoff import Backoff
from infra.config import Config
from infra.errors import RetryableError, WeirError
from infra.status import StatusFile
from schemas.topics import DEAD_LETTERS

#: Records per transaction at most.
_BATCH = 10_000
_POLL = 0.5
#: How long nothing may come before Kafka and Postgres are asked whether they are there, in seconds.
_QUIET = 2.0

_log = log.get(__name__)


class Sink:
    """The sink `name`: reads the topics of `tables` and stores them. Any number may run: one works, the others wait."""

    def __init__(self, config: Config, name: str, tables: Iterable[Table]) -> None:
        self._config = config
        self._name = name
        self._tables = {config.topic(table.topic.name): table for table in tables}
        self._batcher = Batcher(name, self._tables)
        self._status = StatusFile(config, name)
        self._backoff = Backoff(first=0.2, cap=5.0)
        self._facts = {"records": 0, "refused": 0}
        self._said = 0.0

    def run(self, stop: threading.Event) -> None:
        """Works until `stop` is set; where Kafka or Postgres is away, waits and catches up. Blocks.

        Raises OffsetLostError where records were deleted before they were stored, and WeirError for what waiting
        does not help.
        """
        self._status.set("starting")
        try:
            while not stop.is_set():
                try:
                    self._serve(stop)
                except RetryableError as e:
                    self._wait(e, stop)
        except WeirError as e:
            self._status.set("failed", error=str(e))
            raise
        self._status.remove()

    def _wait(self, error: RetryableError, stop: threading.Event) -> None:
        delay = self._backoff.next()
        attempt = self._backoff.attempt
        self._status.set("waiting", attempt=attempt, error=str(error), retry_in_s=round(delay, 1))
        _log.warning("sink.waiting", sink=self._name, attempt=attempt, error=str(error), retry_in_s=round(delay, 1))
        stop.wait(delay)

    def _serve(self, stop: threading.Event) -> None:
        """Opens everything, and stores what comes until `stop` or an error."""
        postgres.migrate(self._config)
        kafka.ensure_topics(self._config, [*(table.topic for table in self._tables.values()), DEAD_LETTERS], timeout=3)
        with (
            SinkStore(self._config, self._name, self._tables.values()) as store,
            Source(self._config, self._name, list(self._tables)) as source,
        ):
            positions = store.offsets(source.beginnings())
            source.read_from(positions)
            refusals = Refusals(self._config)
            self._say_running()
            _log.info("sink.running", sink=self._name, partitions=len(positions))
            heard = time.monotonic()
            while not stop.is_set():
                if records := source.records(_BATCH, _POLL):
                    self._store(store, refusals, self._batcher.batch(records), positions)
                elif time.monotonic() - heard < _QUIET:
                    continue
                else:
                    store.ping()
                    source.check()
                self._backoff.reset()
                heard = time.monotonic()
                if heard - self._said > _QUIET:
                    self._say_running()

    def _say_running(self) -> None:
        """What this process has stored and refused so far; called every few seconds at most."""
        self._status.set("running", **self._facts)
        self._said = time.monotonic()

    def _store(self, store: SinkStore, refusals: Refusals, batch: Batch, positions: dict[Place, int]) -> None:
        # Dead letters last: where storing fails, they are not sent over and over.
        store.write(batch, positions, before_commit=lambda: refusals.send(batch.refused))
        positions.update(batch.next_offsets)
        self._facts["records"] += batch.records
        self._facts["refused"] += len(batch.refused)
        _log.debug("sink.stored", sink=self._name, records=batch.records)
        if batch.refused:
            first = batch.refused[0].origin
            place = {"topic": first.source, "partition": first.partition, "offset": first.offset}
            _log.warning("sink.refused", sink=self._name, elements=len(batch.refused), reason=first.reason, **place)
