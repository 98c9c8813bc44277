"""Which events of a request are fit for Kafka, and what is wrong with the others. Pure: the clock's time is given."""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from infra.config import duration_text
from producers.ingest_body import MAX_ELEMENT, Raws
from producers.ingest_fault import field_and_fault
from producers.ingest_intake import Intake
from producers.ingest_verdicts import (
    DUPLICATE,
    REFUSED,
    UNKNOWN,
    IdVerdict,
    IndexVerdict,
    Verdict,
    field_and_reason,
    shortened,
)
from schemas.codec import BAD_INPUT, Decoder
from schemas.dead_letters import Reason
from schemas.errors import PoisonError
from schemas.times import readable

#: What keeps an event from being read as a whole, so that msgspec names no field.
_UNREADABLE = (Reason.NOT_JSON, Reason.NOT_UTF8, Reason.NESTING)

#: An event for Kafka: its place among the request's, its bytes, its record's key (the id).
Fit = tuple[int, bytes, bytes | None]


@dataclass(slots=True)
class Judged:
    """What is known of one request's events so far: a verdict each, in their order.

    `twins` are events whose id an earlier one has, with the place of that one; `kinds` is what those that are fit have
    made of what they belong to (`Intake.kind_of`).
    """

    verdicts: list[Verdict] = field(default_factory=list)
    twins: list[tuple[int, int]] = field(default_factory=list)
    ignored_fields: int = 0
    places: dict[str, int] = field(default_factory=dict)
    kinds: dict[Hashable, enum.Enum] = field(default_factory=dict)


class KnownIds:
    """The ids added lately: of the last `capacity`, half at least, and none for longer than `age` ms.

    Two sets take turns, so that forgetting costs nothing per id.
    """

    def __init__(self, capacity: int, age: int) -> None:
        self._most, self._age = max(1, capacity // 2), age // 2
        self._fresh: set[str] = set()
        self._old: set[str] = set()
        self._since = 0

    def turn(self, now: int) -> None:
        """Forgets what is due at `now`, in ms; called before `add` and `in`."""
        if now - self._since >= self._age:
            self._old = self._fresh if now - self._since < 2 * self._age else set()
            self._fresh, self._since = set(), now
        elif len(self._fresh) >= self._most:
            self._old, self._fresh, self._since = self._fresh, set(), now

    def add(self, id_: str) -> None:
        """Remembers it."""
        self._fresh.add(id_)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._fresh or id_ in self._old

    def __len__(self) -> int:
        return len(self._fresh) + len(self._old)


class Judge:
    """Judges events by the rules of one intake.

    `max_skew` is in milliseconds; `check` raises ValueError for an event that what is known now forbids; `known` are
    the ids that Kafka has.
    """

    def __init__(
        self, intake: Intake, max_skew: int, check: Callable[[Any], object] | None, known: KnownIds | None
    ) -> None:
        type_ = intake.topic.value
        assert type_ is not None
        assert issubclass(type_, msgspec.Struct)
        self._intake, self._type, self._max_skew, self._check, self._known = intake, type_, max_skew, check, known
        self._fields = {f.encode_name for f in msgspec.structs.fields(type_)}
        # Most events have no field too many: only where this one refuses an event are its fields counted.
        strict = msgspec.defstruct(f"Strict{type_.__name__}", [], bases=(type_,), forbid_unknown_fields=True)
        self._strict: Callable[[bytes | msgspec.Raw], Any] = msgspec.json.Decoder(strict).decode
        self._decoder = Decoder(type_)
        self._topic_check = intake.topic.check or (lambda event: None)

    def judge(self, judged: Judged, raws: Raws, now: int) -> list[Fit]:
        """Adds a verdict for each of these events; those that are fit are returned, and `unknown` for now.

        `now` is in epoch milliseconds.
        """
        fit: list[Fit] = []
        verdicts, places, known = judged.verdicts, judged.places, self._known or ()
        strict, topic_check, check = self._strict, self._topic_check, self._check
        time, id_of = self._intake.time, self._intake.id_of
        latest = now + self._max_skew
        for place, raw in enumerate(raws, len(verdicts)):
            try:
                try:
                    event = strict(raw)
                except BAD_INPUT:
                    event = self._decoded(raw, judged)
                topic_check(event)
                if len(raw) > MAX_ELEMENT:
                    raise ValueError(_too_long(raw))
                if time(event) > latest:
                    raise ValueError(self._ahead(event, now))
                if check is not None:
                    check(event)
            except PoisonError as e:
                verdicts.append(self._refused(place, raw, e.detail, e))
                continue
            except ValueError as e:
                verdicts.append(self._refused(place, raw, str(e)))
                continue
            if id_of is None:
                verdicts.append(IndexVerdict(place, UNKNOWN))
                fit.append((place, bytes(raw), None))
                continue
            id_ = id_of(event)
            if (twin := places.setdefault(id_, place)) != place:
                judged.twins.append((place, twin))
                verdicts.append(IdVerdict(id_, DUPLICATE))
            elif id_ in known:
                verdicts.append(IdVerdict(id_, DUPLICATE))
            elif (other := self._other_kind(judged, event)) is not None:
                del places[id_]
                verdicts.append(self._refused(place, raw, other))
            else:
                verdicts.append(IdVerdict(id_, UNKNOWN))
                fit.append((place, bytes(raw), id_.encode()))
        return fit

    def _decoded(self, raw: msgspec.Raw | bytes, judged: Judged) -> Any:
        """An event that has fields too many, which are counted. Raises PoisonError for any other."""
        event = self._decoder.one(raw)
        judged.ignored_fields += len(_object(raw).keys() - self._fields)
        return event

    def _other_kind(self, judged: Judged, event: Any) -> str | None:
        """What is wrong with an event of another kind than an earlier one's that it belongs together with."""
        if self._intake.kind_of is None:
            return None
        whole, kind = self._intake.kind_of(event)
        if (first := judged.kinds.setdefault(whole, kind)) is kind:
            return None
        return f"`event_type` is {kind.value}, and an earlier event of this request with the same key is {first.value}"

    def _ahead(self, event: Any, now: int) -> str:
        time, most = readable(self._intake.time(event)), duration_text(self._max_skew)
        return f"`{self._intake.time_field}` is {time}, more than {most} ahead of the clock, {readable(now)}"

    def _refused(
        self, place: int, raw: msgspec.Raw | bytes, detail: str, unreadable: PoisonError | None = None
    ) -> Verdict:
        name, why = field_and_reason(detail, self._type)
        if name is None and unreadable is not None and unreadable.reason in _UNREADABLE:
            if len(raw) > MAX_ELEMENT:
                why = _too_long(raw)
            else:
                name, why = field_and_fault(bytes(raw), unreadable)
                name = name if name is None else shortened(name)
        if self._intake.id_of is None:
            return IndexVerdict(place, REFUSED, name, why)
        return IdVerdict(_id(raw), REFUSED, name, why)


def _too_long(raw: msgspec.Raw | bytes) -> str:
    return f"the event has {len(raw)} bytes, more than {MAX_ELEMENT}"


class _WithId(msgspec.Struct):
    event_id: str | None = None


def _id(raw: msgspec.Raw | bytes) -> str | None:
    """The id of an event that is not fit for another reason, where it can be read."""
    try:
        id_ = _with_id(raw).event_id
    except BAD_INPUT:
        return None
    return id_ if id_ is None or len(id_) <= 128 else None


_with_id = msgspec.json.Decoder(_WithId).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
