"""Dead letters: what each one is, and what a replay of it would be. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from weir.infra.kafka.lines import LineParser, Outgoing
from weir.infra.kafka.record_view import RecordView, json_or_text, text_or_base64
from weir.schemas.dead_letters import Origin, Reason, Replay, from_headers
from weir.schemas.errors import PoisonError, WeirError
from weir.schemas.times import readable
from weir.schemas.topic import Topic
from weir.schemas.topics import COMMUNICATIONS, RELATIONS, by_name

#: The reason of a dead letter that does not say its own.
UNKNOWN = "unknown"


class CannotReplayError(WeirError):
    """Raised when a dead letter cannot be replayed."""


@dataclass(frozen=True)
class Letter:
    """One record of `dead-letters`. `origin` is None if its headers were not written by weir."""

    record: RecordView
    origin: Origin | None

    @property
    def position(self) -> str:
        """Its name in every command: partition/offset."""
        return f"{self.record.partition}/{self.record.offset}"

    @property
    def reason(self) -> str:
        """Why it was refused."""
        return UNKNOWN if self.origin is None else self.origin.reason

    def to_dict(self, replay: Replay | None) -> dict[str, Any]:
        """Returns the dead letter as `--json` prints it, for orjson."""
        origin = {} if self.origin is None else msgspec.structs.asdict(self.origin)
        time = origin.get("timestamp")
        return {
            "position": self.position,
            "reason": self.reason,
            **{name: origin.get(name) for name in ("detail", "source", "partition", "offset", "element")},
            "timestamp": None if time is None else readable(time),
            **{name: origin.get(name) for name in ("size", "job", "replayed_from")},
            "written": None if self.record.timestamp is None else readable(self.record.timestamp),
            "replayed": None if replay is None else {"topic": replay.topic, "at": replay.at},
            "key": text_or_base64(self.record.key),
            "value": json_or_text(self.record.value),
        }


def to_letter(record: RecordView) -> Letter:
    """A record of `dead-letters` as what it is."""
    try:
        return Letter(record, from_headers(record.headers))
    except msgspec.ValidationError:
        return Letter(record, None)


def parse_position(text: str) -> tuple[int, int]:
    """Partition and offset. Raises WeirError where the text is no position.

    >>> parse_position("0/17")
    (0, 17)
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,18})", text, re.ASCII)
    if match is None:
        raise WeirError(f"{text!r} is not a position of a dead letter: write partition/offset, such as 0/17")
    return int(match[1]), int(match[2])


@dataclass(frozen=True)
class Sending:
    """A replay: which letter becomes which records of which topic. `doubt` says why they would be refused again."""

    position: str
    topic: Topic
    records: list[Outgoing]
    doubt: str | None = None


class Planner:
    """Decides what a letter's replay is.

    `to` overrides the topic. `now`: as of the time of sending, not of the message's own. `latest` is the highest
    timestamp, in epoch milliseconds, that a job would take at this moment.
    """

    def __init__(self, *, latest: int, to: Topic | None = None, now: bool = False) -> None:
        self._latest = latest
        self._to = to
        self._now = now
        self._parsers: Mapping[str, LineParser] = {t.name: LineParser(t) for t in (COMMUNICATIONS, RELATIONS)}

    def plan(self, letter: Letter) -> Sending:
        """The replay of one letter. Raises CannotReplayError where there is no way to do it."""
        topic = self._to or self._target(letter)
        if topic.owner != "producers":
            raise CannotReplayError(
                f"{letter.position} cannot be sent to {topic.name}, which only {topic.owner} writes"
            )
        value = letter.record.value or b""
        timestamp = None if self._now or letter.origin is None else letter.origin.timestamp
        doubt = self._doubt_of(letter, timestamp)
        try:
            records = (self._parsers.get(topic.name) or LineParser(topic)).records(value)
        except PoisonError as e:
            if e.reason == Reason.TOO_LARGE:
                raise CannotReplayError(f"{letter.position} cannot be sent: {e}") from e
            records, doubt = [Outgoing(value, letter.record.key)], f"{e.reason}: {e}"
        if topic.key_of is None:
            records = [replace(record, key=letter.record.key) for record in records]
        return Sending(letter.position, topic, [replace(r, timestamp=timestamp) for r in records], doubt)

    def _target(self, letter: Letter) -> Topic:
        if letter.origin is None:
            raise CannotReplayError(f"{letter.position} does not name its source: name a topic with --to")
        if "://" not in letter.origin.source:
            return by_name(letter.origin.source)
        for topic in (COMMUNICATIONS, RELATIONS):
            try:
                self._parsers[topic.name].records(letter.record.value or b"")
            except PoisonError as e:
                if e.reason != Reason.TOO_LARGE:
                    continue
            return topic
        raise CannotReplayError(
            f"{letter.position} came from a feed, and is neither communications nor relations: name a topic with --to"
        )

    def _doubt_of(self, letter: Letter, timestamp: int | None) -> str | None:
        if letter.origin is not None and letter.origin.size is not None:
            return f"only the beginning was kept of its {letter.origin.size:,} bytes"
        if timestamp is None or 0 < timestamp <= self._latest:
            return None
        if timestamp == 0:
            raise CannotReplayError(
                f"{letter.position} has the timestamp {readable(0)}, which Kafka clients cannot send: use --now"
            )
        return f"timestamp: {readable(timestamp)} is not a time that a job takes; --now sends it as of now"
