"""Rewrites a view's topic without the facts that repeat others, so that the topic grows with what changes.

Kafka's own compaction keeps the last record of each key by offset. That is not what a history by event time needs: a
producer may write facts in any order of time, under any key or none, and several in one record. So weir compacts the
topic itself, in three steps, each of which may be the last one before a crash:

1. Read the topic up to its end E, and make the records of `CompactedView.history`: per child its facts in order of
   time, each with its own timestamp, and a header that says which of how many it is.
2. Write these records at the end of the topic in one transaction. The transaction commits only where the first record
   has offset E and the last follows without a gap. So nothing was written between what was read and what stands for
   it; else the transaction is aborted, and a later attempt reads again.
3. Delete the records before E (KIP-107), once every consumer group that commits offsets for the topic has come to E,
   and where the topic still has the id that it had before step 1: one that was made anew under the same name holds
   other records. As in `purge`, a pause between that answer and the deletion is a race that remains.

The first record of step 2 has E in a header of its own. So a topic that begins there was compacted, and a topic that
begins anywhere else has lost records.

A reader that meets the records of step 2 puts each child's facts in the place of what it knew of the child. Where it
has read all before E, that changes nothing but the repeats; where it comes late, nothing is missing. So every reader
has the same history, whether it reads before, while or after the topic is rewritten.

A fact is left out where the facts before and after it name the same parent and it is older than `AGE_MS`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

from confluent_kafka import Message, TopicPartition

from weir.infra.config import Config
from weir.infra.errors import StoppedError, WeirError
from weir.infra.kafka import client as kafka
from weir.infra.kafka.transactional import TransactionalProducer
from weir.infra.kafka.trim import Trimmer, TrimRange
from weir.infra.log import get_logger
from weir.infra.runtime.clock import wall_clock
from weir.streams.engine.core.job import CompactedView
from weir.streams.engine.core.records import COMPACTED
from weir.streams.engine.progress.offsets import Group, read_to

log = get_logger(__name__)

#: How often the topic's size is looked at, in seconds.
EVERY_S = 10.0
#: After so many seconds a topic is read again that was found to hold too few old repeats.
AGAIN_S = 600.0
#: The least number of records that a rewriting saves. It saves as many as it writes, too.
LEAST = 10_000
#: A repeated fact is left out once its timestamp is so old (ms): one that is written later than its time by less than
#: this finds all facts around it.
AGE_MS = 3_600_000
#: A producer that dies leaves the transaction open for so long (ms), or longer where it writes many records: nothing
#: behind it can be read meanwhile.
TRANSACTION_MS, RECORDS_PER_MS = 10_000, 50
#: How often one look writes, each time behind what was written since, before it gives up.
ATTEMPTS = 5
#: How long an answer of the broker may take, in seconds.
PATIENCE_S = 15.0
#: So many groups are named at most that have to read on.
FEW = 4


def begins_compacted(
    config: Config, topic: str, partition: int, first: int, stopped: Callable[[], bool] = lambda: False
) -> bool:
    """Whether a partition begins at offset `first` because it was compacted: then nothing of it is lost.

    Raises WeirError where that cannot be read, StoppedError as `stopped` says.
    """
    record = next(read_to(config, topic, partition, first, first + 1, stopped), None)
    return record is not None and (COMPACTED, b"%d" % first) in (record.headers() or ())


class _OvertakenError(Exception):
    """Others have written to the topic meanwhile."""


class Compactor:
    """Compacts the topic of `view`, which must have one partition, for the worker that screens it. Of one thread.

    `view` tells how much there is to gain. The topic itself is read again into a view of its own.
    """

    def __init__(
        self,
        config: Config,
        job: str,
        view: CompactedView,
        least: int = LEAST,
        now_ms: Callable[[], int] = wall_clock,
    ) -> None:
        self._config, self._view, self._least, self._now_ms = config, view, least, now_ms
        self._topic, self._job, self._group = view.topic.name, job, Group(config, job)
        self._deletable = 0  # up to here all stands in later records, in the topic with this id
        self._id: str | None = None
        self._pause = 0.0
        self._stopped: Callable[[], bool] = lambda: False

    def run(self, is_ours: Callable[[], bool], stopping: threading.Event) -> None:
        """Looks every `EVERY_S` seconds until `stopping`, while `is_ours` says that this worker screens the topic.

        An error is logged, and a later look tries again: the topic is exact with and without the compaction. The pause
        doubles, up to `AGAIN_S`, while attempts are overtaken or fail.
        """
        self._stopped = stopping.is_set
        while not stopping.wait(max(EVERY_S, self._pause)):
            try:
                if is_ours():
                    self.look()
            except StoppedError:
                return
            except WeirError as e:
                self._wait_longer()
                log.warning("compaction.failed", topic=self._topic, error=str(e))
            except Exception:  # a thread that ends would end the compaction without a word
                self._wait_longer()
                log.exception("compaction.failed", topic=self._topic)

    def look(self) -> bool:
        """Takes the steps that there is reason for; whether the topic was rewritten. Raises WeirError."""
        first, end = self._group.ends(self._topic, 0)
        if self._deletable > first:
            self._delete_what_is_read(first, end)
            return False
        if not self._is_worth_it(self._view, first, end, self._view.facts - self._view.repeated):
            self._pause = 0.0
            return False
        if (found := self._described()) is None:
            return False
        self._id = found.id
        read, before = self._view.fresh(), self._now_ms() - AGE_MS
        self._read(read, first, end)
        facts, earliest = 0, math.inf
        for *_, timestamp in read.history(before):
            facts, earliest = facts + 1, min(earliest, timestamp or 0)
        # librdkafka writes a record of time 0 with the time 1: such a fact would change.
        if not facts or earliest < 1 or not self._is_worth_it(read, first, end, facts):
            self._pause = AGAIN_S
            return False
        for _ in range(ATTEMPTS):
            producer = self._fenced(read)
            # What has come since belongs to the history as well: little is read again, so little comes meanwhile.
            begun, end = end, self._group.ends(self._topic, 0).end
            self._read(read, begun, end)
            kept = self._write(producer, read, before, end)
            if kept:
                log.info("compaction.written", topic=self._topic, records=end - first, kept=kept)
                self._deletable, self._pause = end, 0.0
                self._delete_what_is_read(first, end)
                return True
        log.warning("compaction.overtaken", topic=self._topic, kept=facts, attempts=ATTEMPTS)
        self._wait_longer()
        return False

    def _read(self, view: CompactedView, start: int, end: int) -> None:
        records = read_to(self._config, self._topic, 0, start, end, self._stopped)
        while some := list(islice(records, 10_000)):
            view.apply(some)

    def _wait_longer(self) -> None:
        self._pause = min(AGAIN_S, 2 * max(EVERY_S, self._pause))

    def _is_worth_it(self, view: CompactedView, first: int, end: int, kept: int) -> bool:
        return max(view.facts, end - first) - kept >= max(self._least, kept)

    def _fenced(self, view: CompactedView) -> TransactionalProducer:
        """A producer of the one id; what an earlier one left open is ended, and its markers are written."""
        timeout = {"transaction.timeout.ms": max(TRANSACTION_MS, view.facts // RECORDS_PER_MS)}
        producer = TransactionalProducer(self._config, f"{self._config.topic(self._topic)}-compaction", **timeout)
        producer.open(self._stopped)
        return producer

    def _write(self, producer: TransactionalProducer, view: CompactedView, before: int, end: int) -> int:
        """Writes the history after offset `end`. Returns how many records were written; 0 if another writer was there
        first, and then nothing is written. Raises StoppedError.
        """
        arrived, is_overtaken = 0, False

        def delivered(error: object, record: Message) -> None:
            nonlocal arrived, is_overtaken
            is_overtaken = is_overtaken or error is not None or record.offset() != end + arrived
            arrived += 1

        written = 0
        with suppress(_OvertakenError), producer.transaction():
            for _, value, key, _, headers, timestamp in view.history(before):
                wanted = [*(headers or ()), *([(COMPACTED, b"%d" % end)] if not written else ())]
                producer.produce(self._topic, value, key, 0, wanted, timestamp, delivered)
                written += 1
                producer.poll()
                if written == 1:
                    producer.flush()  # behind this record nobody can write unseen
                if self._stopped():
                    raise StoppedError(f"the compaction of topic {self._topic} was stopped")
                if is_overtaken:
                    raise _OvertakenError
            producer.flush()
            if is_overtaken or arrived < written:
                raise _OvertakenError
            return written
        return 0

    def _delete_what_is_read(self, first: int, end: int) -> None:
        if late := [group for group, offset in self._committed().items() if offset < self._deletable]:
            self._wait_longer()
            log.info("compaction.waiting", topic=self._topic, offset=self._deletable, groups=sorted(late)[:FEW],
                     reason="what these consumer groups have not read is not deleted")  # fmt: skip
            return
        found = self._described()
        if found is None or found.id != self._id:
            self._deletable = 0
            return
        deleted = Trimmer(self._config, self._view.topic).delete([TrimRange(0, first, self._deletable, end)])
        log.info("compaction.deleted", topic=self._topic, offsets=deleted)

    def _described(self) -> kafka.Described | None:
        return self._group.describe([self._topic]).get(self._topic)

    def _committed(self) -> dict[str, int]:
        """Up to where each group has committed the topic. The job's own is among them, or nothing may be deleted.

        Raises WeirError where a group cannot be asked: what it needs is not known then.
        """
        place = TopicPartition(self._config.topic(self._topic), 0)
        known = self._group.committed(self._topic, 1).get(0)
        found = {self._config.topic(self._job): 0 if known is None else known.offset}
        with kafka.translated(self._config):
            client = kafka.admin(self._config)  # kept: one that is collected ends its own requests
            groups = client.list_consumer_groups(request_timeout=PATIENCE_S).result()
            for error in groups.errors:
                raise error
            for group in groups.valid:
                # A consumer, since the admin client's question can end the process (librdkafka issue 5040).
                asked = kafka.consumer(self._config, None, **{"group.id": group.group_id})
                try:
                    [offset] = [p.offset for p in kafka.committed(asked, [place], PATIENCE_S)]
                finally:
                    asked.close()
                if offset >= 0:
                    found[group.group_id] = offset
        return found
