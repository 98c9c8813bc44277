"""What is said of the events of a request: a verdict each, and the answer that they make together. Pure."""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

ACCEPTED = "accepted"
DUPLICATE = "duplicate"
REFUSED = "refused"
UNKNOWN = "unknown"

#: What a client sent is quoted in a reason up to here, in characters.
_LONGEST_REASON = 300
_CHECKED = re.compile(r"`(\w+)` (.+)", re.DOTALL)
_TYPED = re.compile(r"(.+) - at `\$\.(\w+).*`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")


class IdVerdict(msgspec.Struct, omit_defaults=True, gc=False):
    """What became of the event of that id; None where it has none that can be read."""

    event_id: str | None
    status: str
    field: str | None = None
    reason: str | None = None


class IndexVerdict(msgspec.Struct, omit_defaults=True, gc=False):
    """What became of the event at that place in the request, from 0."""

    index: int
    status: str
    field: str | None = None
    reason: str | None = None


Verdict = IdVerdict | IndexVerdict


class Answer(msgspec.Struct, frozen=True):
    """What is answered: how many events had which verdict, and all verdicts in the events' order.

    `ignored_fields`: fields that events had and their type has not.
    """

    accepted: int
    duplicates: int
    refused: int
    unknown: int
    ignored_fields: int
    events: Sequence[Verdict]

    @property
    def status(self) -> int:
        """HTTP's: 503 where a retry may help, 400 where something is refused, else 202."""
        return 503 if self.unknown else 400 if self.refused else 202


def answer(verdicts: Sequence[Verdict], ignored_fields: int) -> Answer:
    """The answer that these verdicts make."""
    counts = Counter([verdict.status for verdict in verdicts])
    of = counts.__getitem__
    return Answer(of(ACCEPTED), of(DUPLICATE), of(REFUSED), of(UNKNOWN), ignored_fields, verdicts)


def field_and_reason(detail: str, type_: type) -> tuple[str | None, str]:
    """The field that an error of a check or of a decoder names, and what it says of it.

    >>> from schemas.monitoring import MonitoringEvent
    >>> field_and_reason("`event_id` has 0 characters", MonitoringEvent)
    ('event_id', 'has 0 characters')
    >>> field_and_reason("Expected `str`, got `int` - at `$.client_id`", MonitoringEvent)
    ('client_id', 'expected `str`, got `int`')
    >>> field_and_reason("Invalid enum value 'cumulative' - at `$.event_type`", MonitoringEvent)
    ('event_type', "invalid enum value 'cumulative': there are CUMULATIVE, TIME-SERIES")
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
    """What a client sent, as far as it is quoted."""
    return reason if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON] + "…"


def _choices(type_: type, name: str) -> str:
    for field in msgspec.structs.fields(type_):
        if field.encode_name == name and isinstance(field.type, enum.EnumMeta):
            members: Iterable[enum.Enum] = field.type
            return ": there are " + ", ".join(str(member.value) for member in members)
    return ""
