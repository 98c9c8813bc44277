"""Results of a request: a verdict for each event, and the answer they make together. Pure."""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

ACCEPTED = "accepted"
DUPLICATE = "duplicate"
REFUSED = "refused"
UNKNOWN = "unknown"

#: So many verdicts are encoded at a time.
PIECE = 1_000
#: What a client sent is quoted in a reason up to here, in characters.
_LONGEST_REASON = 300
_CHECKED = re.compile(r"`(\w+)` (.+)", re.DOTALL)
_TYPED = re.compile(r"(.+) - at `\$\.(\w+).*`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")


class Finding(msgspec.Struct, frozen=True, gc=False):
    """Result of validating and writing an event. Events with the same result share one finding."""

    status: str
    field: str | None = None
    reason: str | None = None


class IdVerdict(msgspec.Struct, omit_defaults=True, gc=False):
    """Verdict on the event with this id; `event_id` is None if the event has no readable id."""

    event_id: str | None
    status: str
    field: str | None = None
    reason: str | None = None


class IndexVerdict(msgspec.Struct, omit_defaults=True, gc=False):
    """Verdict on the event at this index of the request, counted from 0."""

    index: int
    status: str
    field: str | None = None
    reason: str | None = None


Verdict = IdVerdict | IndexVerdict


class IngestResponse(msgspec.Struct, frozen=True):
    """Answer to one request: how many events had each verdict, and the finding of each event in order.

    `ignored_fields`: fields that events had and their type has not. `ids` are the events' ids, or None where events
    are told apart by their place. `position`: of all events that Kafka has, for `after` in a question; None where there
    are none, or it is not known.
    """

    accepted: int
    duplicates: int
    refused: int
    unknown: int
    ignored_fields: int
    findings: Sequence[Finding]
    ids: Sequence[str | None] | None = None
    position: str | None = None

    @property
    def status(self) -> int:
        """HTTP's: 503 where a retry may help, 400 where something is refused, else 202."""
        return 503 if self.unknown else 400 if self.refused else 202

    def verdicts(self, start: int = 0, end: int | None = None) -> Sequence[Verdict]:
        """The verdicts of the events from `start` to before `end`."""
        found = self.findings[start:end]
        if self.ids is None:
            return [
                IndexVerdict(n, f.status, f.field, f.reason) if f.reason else IndexVerdict(n, f.status)
                for n, f in enumerate(found, start)
            ]
        return [IdVerdict(id_, f.status, f.field, f.reason) for id_, f in zip(self.ids[start:end], found, strict=True)]

    def pieces(self, first: bytes = b"") -> Iterator[bytes]:
        """The answer as JSON, `PIECE` verdicts at a time: they are made when they are asked for. `first` is put before
        the other fields."""
        head = b'{%b"accepted":%d,"duplicates":%d,"refused":%d,"unknown":%d,"ignored_fields":%d,"events":['
        before = head % (first, self.accepted, self.duplicates, self.refused, self.unknown, self.ignored_fields)
        end = len(self.findings)
        last = b"]}" if self.position is None else b'],"position":"%b"}' % self.position.encode()
        for start in range(0, max(1, end), PIECE):
            some = msgspec.json.encode(self.verdicts(start, start + PIECE))[1:-1]
            yield before + some + (b"" if start + PIECE < end else last)
            before = b","

    @property
    def size(self) -> int:
        """About how many bytes all pieces have together."""
        said = sum(n * (60 + len(f.reason or "") + len(f.field or "")) for f, n in _tally(self.findings))
        return said + (0 if self.ids is None else sum(len(id_ or "null") for id_ in self.ids))


def answer(
    findings: Sequence[Finding],
    ignored_fields: int,
    ids: Sequence[str | None] | None = None,
    position: str | None = None,
) -> IngestResponse:
    """The answer that these findings make."""
    counts: Counter[str] = Counter()
    for finding, times in _tally(findings):
        counts[finding.status] += times
    of = counts.__getitem__
    return IngestResponse(
        of(ACCEPTED), of(DUPLICATE), of(REFUSED), of(UNKNOWN), ignored_fields, findings, ids, position
    )


def _tally(findings: Sequence[Finding]) -> Iterable[tuple[Finding, int]]:
    """Counts how often each finding occurs; fast if all events have the same finding, as usual."""
    if findings and findings.count(findings[0]) == len(findings):
        return [(findings[0], len(findings))]
    return Counter(findings).items()


def field_and_reason(detail: str, type_: type) -> tuple[str | None, str]:
    """The field that an error of a check or of a decoder names, and what it says of it.

    >>> from weir.schemas.monitoring import MonitoringEvent
    >>> field_and_reason("`event_id` has 0 characters", MonitoringEvent)
    ('event_id', 'has 0 characters')
    >>> field_and_reason("Expected `str`, got `int` - at `$.client_id`", MonitoringEvent)
    ('client_id', 'expected `str`, got `int`')
    >>> field_and_reason("Invalid enum value 'cumulative' - at `$.event_type`", MonitoringEvent)
    ('event_type', "invalid enum value 'cumulative'; allowed: CUMULATIVE, TIME-SERIES")
    """
    if found := _CHECKED.fullmatch(detail):
        return found[1], shortened(found[2])
    if found := _MISSING.fullmatch(detail):
        return found[1], "is missing"
    if found := _TYPED.fullmatch(detail):
        reason = shortened(found[1][:1].lower() + found[1][1:])
        choices = _choices(type_, found[2]) if "enum" in reason else ""
        return found[2], reason + choices
    return None, shortened(detail)


def shortened(reason: str) -> str:
    """Returns the reason cut to the longest length that an answer quotes."""
    return reason if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON] + "…"


def _choices(type_: type, name: str) -> str:
    for field in msgspec.structs.fields(type_):
        if field.encode_name == name and isinstance(field.type, enum.EnumMeta):
            members: Iterable[enum.Enum] = field.type
            return "; allowed: " + ", ".join(str(member.value) for member in members)
    return ""
