"""The two result topics read beside whatever else runs, into a `LiveTable`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec
from confluent_kafka import OFFSET_END

from weir.demo.live_table import LiveTable, Snapshot
from weir.infra import log
from weir.infra.config import Config
from weir.infra.kafka.topic_reader import TopicReader
from weir.schemas.links import LinkCount
from weir.schemas.topic import Topic
from weir.schemas.topics import LINK_COUNTS, LINK_WINDOWS
from weir.schemas.windows import WindowClosed

_log = log.get_logger("live-reader")


class DemoReader:
    """Reads what is written from its start on. A context manager; `snapshot` may be called at any time."""

    def __init__(self, config: Config, since: int) -> None:
        """Raises KafkaUnavailableError. Windows that ended by `since` (epoch milliseconds) are left out."""
        self._table = LiveTable(since=since)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._threads = [
            self._reading(config, LINK_COUNTS, LinkCount, lambda place, found: self._table.count(place, found)),
            self._reading(config, LINK_WINDOWS, WindowClosed, lambda _, found: self._table.closed(found)),
        ]

    def __enter__(self) -> DemoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        for thread in self._threads:
            thread.join(1.0)

    def snapshot(self, busiest: int) -> Snapshot:
        """Returns the current state of the counts."""
        with self._lock:
            return self._table.snapshot(busiest)

    def _reading(self, config: Config, topic: Topic, type_: type, take: Callable[[int, Any], None]) -> threading.Thread:
        reader = TopicReader(config, topic, start=OFFSET_END)
        decode: Callable[[bytes], Any] = msgspec.json.Decoder(type_).decode

        def read() -> None:
            with reader:
                for record in reader.for_ever():
                    if self._closed.is_set():
                        return
                    if record is not None and record.value is not None:
                        try:
                            found = decode(record.value)
                        except msgspec.DecodeError as e:
                            _log.warning("live.unreadable", topic=topic.name, offset=record.offset, error=str(e))
                            continue
                        with self._lock:
                            take(record.partition, found)

        thread = threading.Thread(target=read, name=f"read-{topic.name}", daemon=True)
        thread.start()
        return thread
