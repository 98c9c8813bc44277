"""Events of monitored clients, many of them sent several times, on a real Kafka; and what must come of them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from random import Random
from typing import Any

import msgspec
from confluent_kafka import KafkaError, Message

from weir.infra.config import Config
from weir.infra.kafka.client import producer
from weir.schemas.dead_letters import Reason, from_headers
from weir.schemas.monitoring import client_key
from weir.streams.engine.core.ledger import Ledger
from weir.streams.engine.core.records import Record
from weir.streams.engine.progress.ledger_reader import LedgerReader
from weir.streams.engine.progress.offsets import Group, read_to
from weir.streams.jobs import registry as jobs

#: Both jobs, in the order in which an event comes to them.
JOBS = ("monitoring-ids", "monitoring")
CLIENTS, KEYS = 12, 3
#: One event in so many has come before, one record in so many holds several, one element in so many is refused, and one
#: event in so many is of a key that gets both types.
AGAIN, ARRAY, REFUSED, BOTH = 3, 8, 40, 25
#: Elements of one of every sort of what monitoring refuses, but for those that take a client's key for the other type.
BAD = (
    b'{"client_id":"c","event_id":"bad","event_timestamp":1,"event_type":"CUMULATIVE","event_key":"k","event_value":1e100}',
    b'{"client_id":"c","event_id":"bad","event_timestamp":9e10,"event_type":"CUMULATIVE","event_key":"k","event_value":1}',
    b'{"client_id":"","event_id":"bad","event_timestamp":1,"event_type":"TIME-SERIES","event_key":"k","event_value":1}',
)

Event = dict[str, Any]


class Source:
    """Sends events, old ones among them, to any partition. `events` is what was sent, by id; the rest are counts of
    elements: `sent` in all, `refused` of those, `acknowledged` by the broker.
    """

    def __init__(self, config: Config, seed: int) -> None:
        self._config, self._rng = config, Random(seed)
        # A broker that is away for long must cost no event: the producer tries until the run is over.
        self._producer = producer(config, **{"message.timeout.ms": 0, "queue.buffering.max.messages": 1_000_000})
        self._now = int(time.time() * 1000)
        self.events: dict[str, Event] = {}
        self.sent = self.refused = self.acknowledged = 0

    def send(self, elements: int) -> None:
        """Hands so many to the producer, which sends them in its own time."""
        while elements > 0:
            several = self._rng.randint(2, 6) if self._rng.randrange(ARRAY) == 0 else 1
            made = [self._element() for _ in range(min(several, elements))]
            elements -= len(made)
            self._hand_over(made)
        self._producer.poll(0)

    def finish(self) -> None:
        """Waits for every acknowledgement."""
        assert self._producer.flush(120) == 0, "the broker has not acknowledged all events"
        assert self.acknowledged == self.sent

    def _element(self) -> tuple[str, bytes]:
        """An id and the event in JSON; of one that is refused, no id that counts."""
        rng = self._rng
        if rng.randrange(REFUSED) == 0:
            self.refused += 1
            return "bad", rng.choice(BAD)
        if self.events and rng.randrange(AGAIN) == 0:  # half of them soon after the first
            known = len(self.events)
            number = rng.randrange(max(0, known - 100), known) if rng.randrange(2) else rng.randrange(known)
            id = f"e{number}"
        else:
            id = f"e{len(self.events)}"
            self.events[id] = self._event(id)
        return id, msgspec.json.encode(self.events[id])

    def _event(self, id: str) -> Event:
        rng = self._rng
        kind = rng.choice(["CUMULATIVE", "TIME-SERIES"])
        key = "both" if rng.randrange(BOTH) == 0 else f"{kind.lower()} {rng.randrange(KEYS)}"
        number: Any = rng.choice([f"{rng.randrange(-(10**6), 10**6)}e-{rng.randrange(6)}", rng.randrange(1000) / 10])
        value = number if kind == "CUMULATIVE" or rng.randrange(2) else {"of": [number, None, "x"]}
        client, at = f"client-{rng.randrange(CLIENTS)}", self._now - len(self.events)
        return {
            "client_id": client, "event_id": id, "event_timestamp": at,
            "event_type": kind, "event_key": key, "event_value": value,
        }  # fmt: skip

    def _hand_over(self, made: Sequence[tuple[str, bytes]]) -> None:
        value = made[0][1] if len(made) == 1 else b"[" + b",".join(raw for _, raw in made) + b"]"
        where: dict[str, Any] = {"key": made[0][0]}  # as the endpoint does; others may put an event anywhere
        if self._rng.randrange(2):
            where = {"partition": self._rng.randrange(self._config.kafka.partitions)}

        def delivered(error: KafkaError | None, _: Message, elements: int = len(made)) -> None:
            assert error is None, error
            self.acknowledged += elements

        topic = self._config.topic("monitoring-events")
        self._producer.produce(topic, value, timestamp=self._now, on_delivery=delivered, **where)
        self.sent += len(made)


@dataclass
class Outcome:
    """The expected result of one client's key: the kind of its first event, its events' ids, their sum."""

    kind: str
    ids: list[str] = field(default_factory=list)
    sum: Fraction = Fraction(0)


class Results:
    """The results of both jobs so far, read from the broker: committed records only."""

    def __init__(self, config: Config) -> None:
        self._config, self._group = config, Group(config, "reader")
        self._ledgers = {name: LedgerReader(config, jobs.make(name, config)) for name in JOBS}

    def ledger(self, job: str) -> Ledger:
        return self._ledgers[job].read()

    def done(self, source: Source) -> bool:
        """Whether both jobs are through with all that was sent."""
        ids = self.ledger("monitoring-ids")
        if ids.accepted < source.sent or ids.merged < ids.counted:
            return False
        monitoring = self.ledger("monitoring")
        return monitoring.accepted >= len(source.events)

    def records(self, topic: str) -> list[Record]:
        """A topic's records, partition by partition."""
        return [
            record
            for partition in range(self._group.partitions(topic))
            for record in read_to(self._config, topic, partition, *self._group.ends(topic, partition))
        ]

    def check(self, source: Source, dead_before: int = 0) -> None:
        """Every id has come through once, as it was sent; sums and series are those of what came through. Dead letters
        of before a reset, so many, are not looked at.
        """
        passed = self._unique(source)
        expected, other = folded(passed)
        self._totals(expected)
        self._series(passed, expected)
        ids, monitoring = (self.ledger(name) for name in JOBS)
        assert (ids.accepted, ids.dead, ids.late) == (source.sent, source.refused, 0)
        assert ids.merged == ids.counted == source.sent - source.refused
        assert (monitoring.accepted, monitoring.dead, monitoring.late) == (len(source.events), len(other), 0)
        assert monitoring.merged == monitoring.counted == len(source.events) - len(other)
        dead = [(r, from_headers(r.headers())) for r in self.records("dead-letters")[dead_before:]]
        by_job = Counter(origin.job for _, origin in dead)
        assert by_job == Counter({"monitoring-ids": source.refused, "monitoring": len(other)})
        of_other = [msgspec.json.decode(r.value() or b"") for r, o in dead if o.reason == Reason.KEY_TYPE]
        assert sorted(event["event_id"] for event in of_other) == sorted(other)
        direct: dict[tuple[str, str], Fraction] = defaultdict(Fraction)  # from what was sent, with no topic between
        for event in source.events.values():
            if event["event_type"] == "CUMULATIVE" and event["event_key"] != "both":
                direct[event["client_id"], event["event_key"]] += Fraction(str(event["event_value"]))
        found = {where: o.sum for where, o in expected.items() if o.kind == "CUMULATIVE" and where[1] != "both"}
        assert found == dict(direct)

    def check_so_far(self, source: Source, topic: str, is_anew: bool) -> None:
        """Every id has come through once at most, as it was sent; sums and series are those of what monitoring has
        committed. Both jobs have stopped, one of them since `topic` has got a partition or is made anew.
        """
        if topic == "monitoring-unique":
            # Who sends the events spreads them over other partitions from then on, or what came through is gone.
            told = [
                msgspec.json.decode(record.value() or b"")["event_id"] for record in self.records("monitoring-series")
            ]
            assert len(set(told)) == len(told)
            assert set(told) <= source.events.keys()
            return
        passed = list(self._passed(source))
        ids = [event["event_id"] for _, event in passed]
        assert len(set(ids)) == len(ids)
        at = [self._settled("monitoring", "monitoring-unique", p) for p in range(self._config.kafka.partitions)]
        done = [event for record, event in passed if (record.offset() or 0) < at[record.partition() or 0]]
        expected, other = folded(done)
        self._totals(expected)
        self._series(done, expected)
        monitoring = self.ledger("monitoring")
        assert (monitoring.accepted, monitoring.dead, monitoring.late) == (len(done), len(other), 0)

    def _settled(self, job: str, topic: str, partition: int) -> int:
        found = Group(self._config, job).settled(topic, partition)
        return 0 if found is None else found.offset

    def _unique(self, source: Source) -> list[Event]:
        passed = [event for _, event in self._passed(source)]
        assert sorted(event["event_id"] for event in passed) == sorted(source.events)
        return passed

    def _passed(self, source: Source) -> Iterator[tuple[Record, Event]]:
        """Yields the events that came through, each as it was sent; those of a key must be in one partition."""
        place: dict[bytes | None, int] = {}
        for record in self.records("monitoring-unique"):
            event = msgspec.json.decode(record.value() or b"")
            assert record.key() == client_key(event["client_id"], event["event_key"])
            assert place.setdefault(record.key(), record.partition()) == record.partition()
            sent = source.events[event["event_id"]]
            if sent["event_type"] == "CUMULATIVE":
                event["event_value"], sent = Fraction(exact_text(record)), {**sent, "event_value": number(sent)}
            assert event == sent
            yield record, event

    def _totals(self, expected: dict[tuple[str, str], Outcome]) -> None:
        """One record for each event, in order, and the last is the sum."""
        told: dict[tuple[str, str], list[int]] = defaultdict(list)
        sums = {}
        for record in self.records("monitoring-totals"):
            total = msgspec.json.decode(record.value() or b"")
            where = total["client_id"], total["event_key"]
            told[where].append(total["events"])
            sums[where] = Fraction(exact_text(record))
        summed = {where: outcome for where, outcome in expected.items() if outcome.kind == "CUMULATIVE"}
        assert sums == {where: outcome.sum for where, outcome in summed.items()}
        for where, outcome in summed.items():  # compaction may have taken some, never the last
            assert told[where][-1] == len(outcome.ids)
            assert told[where] == sorted(set(told[where]))

    def _series(self, passed: Sequence[Event], expected: dict[tuple[str, str], Outcome]) -> None:
        """Each event once, as it came through, and those of a key in order."""
        by_id = {event["event_id"]: event for event in passed}
        told: dict[tuple[str, str], list[str]] = defaultdict(list)
        for record in self.records("monitoring-series"):
            event = msgspec.json.decode(record.value() or b"")
            assert event == by_id[event["event_id"]]
            told[event["client_id"], event["event_key"]].append(event["event_id"])
        assert told == {where: outcome.ids for where, outcome in expected.items() if outcome.kind == "TIME-SERIES"}


def folded(passed: Sequence[Event]) -> tuple[dict[tuple[str, str], Outcome], list[str]]:
    """Returns the outcome of events in this order, by client and key, and the ids of events of the wrong kind."""
    outcomes: dict[tuple[str, str], Outcome] = {}
    other = []
    for event in passed:
        kind = event["event_type"]
        outcome = outcomes.setdefault((event["client_id"], event["event_key"]), Outcome(kind))
        if outcome.kind != kind:
            other.append(event["event_id"])
            continue
        outcome.ids.append(event["event_id"])
        if kind == "CUMULATIVE":
            outcome.sum += event["event_value"]
    return outcomes, other


def number(event: Event) -> Fraction:
    return Fraction(str(event["event_value"]))


def exact_text(record: Record) -> str:
    """The digits of a record's `event_value` as they stand there."""
    return bytes(msgspec.json.decode(record.value() or b"", type=dict[str, msgspec.Raw])["event_value"]).decode()
