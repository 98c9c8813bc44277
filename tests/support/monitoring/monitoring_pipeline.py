"""Events for the monitoring jobs, and both jobs over lists, one after the other."""

from __future__ import annotations

from typing import Any

import msgspec

from weir.infra.config import Config
from weir.streams.engine.aggregates.partials import owner
from weir.streams.jobs import monitoring, monitoring_ids
from weir.streams.testing import FakeRecord, Harness

#: When the first event is accepted, in epoch ms.
BASE = 1_750_000_020_000


def event(id: str, value: Any = 1, key: str = "requests", client: str = "shop", **more: Any) -> dict[str, Any]:
    """A CUMULATIVE event of the time BASE, unless `more` says otherwise."""
    return {
        "client_id": client, "event_id": id, "event_timestamp": BASE, "event_type": "CUMULATIVE", "event_key": key,
        "event_value": value, **more,
    }  # fmt: skip


def sample(id: str, value: Any = 1, key: str = "cpu", client: str = "shop", **more: Any) -> dict[str, Any]:
    """A TIME-SERIES event."""
    return event(id, value, key, client, event_type="TIME-SERIES", **more)


class Pipeline:
    """monitoring-ids and monitoring, each a `Harness`; `flow` carries what the first has committed to the second."""

    def __init__(self, partitions: int = 1, **settings: Any) -> None:
        config = Config().replace(**settings)
        self.partitions = partitions
        self.ids = Harness(monitoring_ids.job(config), partitions, now_ms=BASE)
        self.monitoring = Harness(monitoring.job(config), partitions, now_ms=BASE)
        self._carried = 0

    def send(self, value: Any, at: int = 0, partition: int = 0) -> None:
        """A record of `monitoring-events`, accepted so many ms after BASE."""
        self.ids.send("monitoring-events", value, BASE + at, partition)

    def flow(self) -> None:
        """As Kafka would: the records of a key in one partition, in the order in which they were written."""
        unique = self.unique
        for record in unique[self._carried :]:
            key = record.key() or b""
            self.monitoring.send(
                "monitoring-unique", record.value(), record.timestamp()[1], owner((key.decode(),), self.partitions), key
            )
        self._carried = len(unique)

    def run(self) -> None:
        """Until nothing is left."""
        self.ids.run()
        self.flow()
        self.monitoring.run()

    def crash(self) -> None:
        """Ends all workers and starts them again from their committed state."""
        self.ids.crash()
        self.monitoring.crash()

    @property
    def unique(self) -> list[FakeRecord]:
        """The unique events, as written: a harness puts every record that has a key into partition 0."""
        return self.ids.topics["monitoring-unique", 0]

    def unique_ids(self) -> list[str]:
        return [msgspec.json.decode(record.value() or b"")["event_id"] for record in self.unique]

    def totals(self) -> dict[tuple[str, str], str]:
        """The latest sum of each client and key, as its text stands there."""
        found = {}
        for record in self.monitoring.records("monitoring-totals"):
            raw = msgspec.json.decode(record.value() or b"", type=dict[str, msgspec.Raw])
            key = tuple(msgspec.json.decode(record.key() or b""))
            assert key == (msgspec.json.decode(raw["client_id"]), msgspec.json.decode(raw["event_key"]))
            found[key[0], key[1]] = bytes(raw["event_value"]).decode()
        return found

    def series(self) -> list[str]:
        """The ids of the TIME-SERIES events."""
        return [value["event_id"] for value in self.monitoring.values("monitoring-series")]

    def check_ledgers(self) -> None:
        """Every event is processed or refused, also as the ledger has it."""
        for h in (self.ids, self.monitoring):
            assert h.routed.late == 0
            assert h.routed.counted == h.counted
            assert h.routed.dead == len(h.records("dead-letters"))
