"""A sink: topics into Postgres tables, every record with its effect exactly once.

Nothing is remembered here: where to go on stands in Postgres beside the rows, and moves in the transaction that
stores them. So whatever fails, the sink lets everything go, waits, and opens again from there.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from weir.consumers.sinks.batch import Batch, Batcher, Place, RefusedRow
from weir.consumers.sinks.dead_letter_producer import DeadLetterProducer
from weir.consumers.sinks.row_bisector import RowBisector
from weir.consumers.sinks.source import Source
from weir.consumers.sinks.store import SinkStore
from weir.consumers.sinks.table import Table
from weir.consumers.sinks.writer import Writer
from weir.infra import log, postgres, prometheus
from weir.infra.config import Config
from weir.infra.errors import DataRefusedError, RetryableError
from weir.infra.kafka import client as kafka
from weir.infra.prometheus import Reading
from weir.infra.runtime.backoff import Backoff
from weir.infra.runtime.lifecycle import Facts, ServicePart
from weir.infra.runtime.threads import in_daemon
from weir.schemas.topics import DEAD_LETTERS

_POLL = 0.5
#: How long more is waited for while the batch before is being stored, in seconds.
_FILL = 0.02
#: How long nothing may come before Kafka and Postgres are asked whether they are there, in seconds.
_QUIET = 2.0
#: So many records, and about so many bytes of them, are made into rows at a time: few enough that they stay in the
#: processor's cache meanwhile.
_RUN, _RUN_BYTES = 1_000, 1 << 20
#: Seconds that it has to end in order.
_GRACE_S = 3.0
#: Bytes of records in one transaction, about: memory holds three of them at most.
_BYTES = 32 << 20
#: Records per transaction where Postgres has refused a row in a batch: what is tried again for each bad row is no more.
_SIFTED = 1_000

_log = log.get_logger(__name__)


class Sink(ServicePart):
    """The sink `name`: reads the topics of `tables` and stores them. Any number may run: one works, the others wait."""

    def __init__(self, config: Config, name: str, tables: Iterable[Table]) -> None:
        self._config = config
        self._name = name
        self._tables = {config.topic(table.topic.name): table for table in tables}
        self._batcher = Batcher(name, self._tables)
        self._most = max(table.batch for table in self._tables.values())
        self._backoff = Backoff(first=0.2, cap=5.0)
        self._rows = {"records": 0, "refused": 0}
        self._storing = (0.0, 0)  # the seconds that batches took in all, and how many there were
        self._waits: dict[str, str | int | float] = {}
        self._state = "starting"
        self._stop = threading.Event()
        self._thread: asyncio.Future[None] | None = None

    async def work(self) -> None:
        """Reads and stores in a thread of its own; where Kafka or Postgres is away, waits and catches up.

        Raises OffsetLostError where records were deleted before they were stored, and WeirError for what waiting
        does not help.
        """
        self._thread = asyncio.ensure_future(in_daemon(self._run))
        await asyncio.shield(self._thread)

    async def close(self) -> None:
        """Ends, within a few seconds; what is not stored by then the next run stores."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.wait([self._thread], timeout=_GRACE_S)

    @property
    def state(self) -> str:
        """`starting`, `waiting` for Kafka or Postgres, or `running`."""
        return self._state

    @property
    def reason(self) -> str | None:
        """Says which server does not answer, where the sink waits."""
        return str(self._waits["error"]) if self._waits else None

    def facts(self) -> Facts:
        """How many records were stored and elements refused; while it waits, the attempt and the pause before it."""
        return self._waits or self._rows

    def metrics(self) -> list[Reading]:
        """Records stored, elements refused, and the time that batches took."""
        label = (self._name,)
        return [
            Reading(prometheus.STORED, self._rows["records"], label),
            Reading(prometheus.REFUSED, self._rows["refused"], label),
            Reading(prometheus.STORE, self._storing[0], label, self._storing[1]),
        ]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._serve(self._stop)
            except RetryableError as e:
                self._wait(e)

    def _wait(self, error: RetryableError) -> None:
        delay = round(self._backoff.next(), 1)
        self._waits = {"attempt": self._backoff.attempt, "error": str(error), "retry_in_s": delay}
        self._state = "waiting"
        _log.warning("sink.waiting", sink=self._name, **self._waits)
        self._stop.wait(delay)

    def _serve(self, stop: threading.Event) -> None:
        """Opens everything, and stores what comes until `stop` or an error."""
        postgres.migrate(self._config)
        kafka.ensure_topics(self._config, [*(table.topic for table in self._tables.values()), DEAD_LETTERS], timeout=3)
        with (
            SinkStore(self._config, self._name, self._tables.values()) as store,
            Source(self._config, self._name, [table.topic.name for table in self._tables.values()]) as source,
        ):
            positions = store.offsets(source.beginnings())
            source.read_from(positions)
            work = _Work(store, DeadLetterProducer(self._config), positions)
            self._state, self._waits = "running", {}
            _log.info("sink.running", sink=self._name, partitions=len(positions))
            with Writer(f"{self._name}-writer", store.ping, _QUIET) as writer:
                self._read(source, work, writer, stop)

    def _read(self, source: Source, work: _Work, writer: Writer, stop: threading.Event) -> None:
        """Reads a batch and makes its rows while the batch before is being stored."""
        heard = time.monotonic()
        while not stop.is_set():
            if records := source.records(_RUN, _RUN_BYTES, _POLL):
                batch = self._batcher.batch(records)
                # What is there already shares a transaction, rather than wait for one of its own.
                while writer.busy and batch.elements < self._most and batch.bytes < _BYTES and not stop.is_set():
                    self._batcher.extend(batch, source.records(_RUN, _RUN_BYTES, _FILL))
                batch.seal()
                writer.give(partial(self._store, work, batch))
            elif time.monotonic() - heard < _QUIET:
                if not writer.busy:
                    writer.wait()
                continue
            else:
                writer.wait()
                work.store.ping()
                source.check()
                self._backoff.reset()
            heard = time.monotonic()

    def _store(self, work: _Work, batch: Batch) -> None:
        """Stores a batch in one transaction; where Postgres refuses a row, in several, the bad rows sifted out."""
        began = time.monotonic()
        try:
            self._write(work, batch)
            self._storing = self._storing[0] + time.monotonic() - began, self._storing[1] + 1
        except DataRefusedError as e:
            bisector = RowBisector(self._name)
            _log.warning("sink.sifting", sink=self._name, records=len(batch.records), error=str(e))
            refused = 0
            for start in range(0, len(batch.records), _SIFTED):
                run = self._batcher.batch(batch.records[start : start + _SIFTED])
                refused += len(self._write(work, run, bisector))
            seconds = round(time.monotonic() - began, 3)
            _log.warning("sink.sifted", sink=self._name, refused=refused, trials=bisector.trials, seconds=seconds)

    def _write(self, work: _Work, batch: Batch, bisector: RowBisector | None = None) -> list[RefusedRow]:
        work.store.prepare(batch)
        # Dead letters last: where storing fails, they are not sent over and over.
        refused = work.store.write(batch, work.positions, work.refusals.send, bisector)
        work.positions.update(batch.next_offsets)
        self._backoff.reset()
        self._rows["records"] += len(batch.records)
        self._rows["refused"] += len(refused)
        _log.debug("sink.stored", sink=self._name, records=len(batch.records))
        if refused:
            first = refused[0].origin
            place = {"topic": first.source, "partition": first.partition, "offset": first.offset}
            _log.warning("sink.refused", sink=self._name, elements=len(refused), reason=first.reason, **place)
        return refused


@dataclass
class _Work:
    """State of the writing thread. `positions`: the offset of each partition's next record, as stored."""

    store: SinkStore
    refusals: DeadLetterProducer
    positions: dict[Place, int]
