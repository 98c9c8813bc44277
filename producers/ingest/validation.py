"""Which events of a request are fit for Kafka, and what is wrong with the others. Pure: the clock's time is given."""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from weir.infra.config.settings import duration_text
from weir.producers.ingest.body import MAX_ELEMENT, Raws
from weir.producers.ingest.intake import Intake
from weir.producers.ingest.json_errors import field_and_fault
from weir.producers.ingest.results import ACCEPTED, DUPLICATE, REFUSED, UNKNOWN, Finding, field_and_reason, shortened
from weir.schemas.codec import BAD_INPUT, Decoder
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.times import readable

#: What keeps an event from being read as a whole, so that msgspec names no field.
_UNREADABLE = (Reason.NOT_JSON, Reason.NOT_UTF8, Reason.NESTING)

#: What all events that are all right are found to be.
GOOD, PENDING, TWIN = Finding(ACCEPTED), Finding(UNKNOWN), Finding(DUPLICATE)
#: What a finding, its place in the request, and an event's id take in memory, about, in bytes.
_FINDING_COST, _PLACE_COST, _ID_COST = 300, 16, 250

#: An event for Kafka: its place among the request's, its bytes, its record's key (the id).
ValidEvent = tuple[int, bytes, bytes | None]


@dataclass(slots=True)
class ValidationResult:
    """Results of validating one request so far: a finding per event, in order, and its id where events have ids.

    `twins` are events whose id an earlier one has, with the place of that one; `kinds` is what those that are fit have
    made of what they belong to (`Intake.kind_of`).
    """

    findings: list[Finding] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    twins: list[tuple[int, int]] = field(default_factory=list)
    ignored_fields: int = 0
    places: dict[str, int] = field(default_factory=dict)
    kinds: dict[Hashable, enum.Enum] = field(default_factory=dict)
    #: What was found of any event but those that are all right, by itself: the same is there once.
    _found: dict[Finding, Finding] = field(default_factory=dict)
    _texts: int = 0

    def found(self, status: str, name: str | None = None, reason: str | None = None) -> Finding:
        """A finding that is shared by all events of which the same is to be said."""
        made = Finding(status, name, reason)
        known = self._found.setdefault(made, made)
        if known is made:
            self._texts += _FINDING_COST + 2 * len(reason or "")
        return known

    @property
    def size(self) -> int:
        """About how many bytes this takes in memory."""
        ids = len(self.ids) - self.ids.count(None)
        return _PLACE_COST * len(self.findings) + _ID_COST * ids + self._texts


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


class Validator:
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

    def validate(self, result: ValidationResult, raws: Raws, now: int) -> list[ValidEvent]:
        """Adds a finding for each of these events; those that are fit are returned, and `unknown` for now.

        `now` is in epoch milliseconds.
        """
        valid: list[ValidEvent] = []
        findings, ids, places, known = result.findings, result.ids, result.places, self._known or ()
        strict, topic_check, check = self._strict, self._topic_check, self._check
        time, id_of = self._intake.time, self._intake.id_of
        latest = now + self._max_skew
        for place, raw in enumerate(raws, len(findings)):
            try:
                try:
                    event = strict(raw)
                except BAD_INPUT:
                    event = self._decoded(raw, result)
                topic_check(event)
                if len(raw) > MAX_ELEMENT:
                    raise ValueError(_too_long(raw))
                if time(event) > latest:
                    raise ValueError(self._ahead(event, now))
                if check is not None:
                    check(event)
            except PoisonError as e:
                self._refuse(result, raw, e.detail, e)
                continue
            except ValueError as e:
                self._refuse(result, raw, str(e))
                continue
            if id_of is None:
                findings.append(PENDING)
                valid.append((place, bytes(raw), None))
                continue
            id_ = id_of(event)
            if (twin := places.setdefault(id_, place)) != place:
                result.twins.append((place, twin))
                findings.append(TWIN)
            elif id_ in known:
                findings.append(TWIN)
            elif (other := self._other_kind(result, event)) is not None:
                del places[id_]
                self._refuse(result, raw, other)
                continue
            else:
                findings.append(PENDING)
                valid.append((place, bytes(raw), id_.encode()))
            ids.append(id_)
        return valid

    def _decoded(self, raw: msgspec.Raw | bytes, result: ValidationResult) -> Any:
        """An event that has fields too many, which are counted. Raises PoisonError for any other."""
        event = self._decoder.one(raw)
        result.ignored_fields += len(_object(raw).keys() - self._fields)
        return event

    def _other_kind(self, result: ValidationResult, event: Any) -> str | None:
        """Returns the reason if an earlier event of the same group has another kind, else None."""
        if self._intake.kind_of is None:
            return None
        whole, kind = self._intake.kind_of(event)
        if (first := result.kinds.setdefault(whole, kind)) is kind:
            return None
        return f"`event_type` is {kind.value}, and an earlier event of this request with the same key is {first.value}"

    def _ahead(self, event: Any, now: int) -> str:
        time, most = readable(self._intake.time(event)), duration_text(self._max_skew)
        return f"`{self._intake.time_field}` is {time}, more than {most} ahead of the clock, {readable(now)}"

    def _refuse(
        self, result: ValidationResult, raw: msgspec.Raw | bytes, detail: str, unreadable: PoisonError | None = None
    ) -> None:
        name, why = field_and_reason(detail, self._type)
        if name is None and unreadable is not None and unreadable.reason in _UNREADABLE:
            if len(raw) > MAX_ELEMENT:
                why = _too_long(raw)
            else:
                name, why = field_and_fault(bytes(raw), unreadable)
                name = name if name is None else shortened(name)
        result.findings.append(result.found(REFUSED, name, why))
        if self._intake.id_of is not None:
            result.ids.append(_id(raw))


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
