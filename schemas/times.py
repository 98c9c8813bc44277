"""Times as they travel: RFC 3339 in UTC on the wire, epoch milliseconds inside.

Kafka's record timestamps are epoch milliseconds (KIP-32); windows are aligned to the epoch.
"""

from __future__ import annotations

import datetime as dt
import re

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_MILLISECOND = dt.timedelta(milliseconds=1)
_EPOCH_TEXT = re.compile(r"\d{1,16}(\.\d{1,9})?", re.ASCII)
#: An epoch below this is in seconds (until the year 5138), from this on in milliseconds (from March 1973).
SECONDS_BELOW = 10**11
#: From this on an epoch would be after the year 9999 in milliseconds: microseconds, most likely.
_EPOCH_END = 253_402_300_800_000


def to_rfc3339(epoch_ms: int) -> str:
    """Epoch milliseconds as RFC 3339 in UTC; the fraction is written only where there is one.

    >>> to_rfc3339(60_000), to_rfc3339(1)
    ('1970-01-01T00:01:00Z', '1970-01-01T00:00:00.001Z')

    Raises ValueError outside the years 1 to 9999: a Kafka timestamp can be any 64-bit number.
    """
    try:
        moment = _EPOCH + dt.timedelta(milliseconds=epoch_ms)
    except OverflowError as e:
        raise ValueError(f"{epoch_ms} ms from 1970 is outside the calendar") from e
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds" if epoch_ms % 1000 else "seconds") + "Z"


def readable(epoch_ms: int) -> str:
    """RFC 3339 where the calendar has it, else the number: for showing a time that nobody has checked."""
    try:
        return to_rfc3339(epoch_ms)
    except ValueError:
        return str(epoch_ms)


def from_rfc3339(text: str) -> int:
    """RFC 3339 (with an offset or `Z`) as epoch milliseconds.

    Raises ValueError where the text is no such time, or has no offset.

    >>> from_rfc3339("1970-01-01T00:01:00Z"), from_rfc3339("1970-01-01T01:00:00+01:00")
    (60000, 0)
    """
    if not _RFC3339.fullmatch(text):  # fromisoformat takes all of ISO 8601, and stops reading at a NUL
        why = "has no offset from UTC" if _RFC3339.fullmatch(text + "Z") else "is not an RFC 3339 time"
        raise ValueError(f"{text!r} {why}: write it as 2026-01-31T12:00:00Z")
    try:
        moment = dt.datetime.fromisoformat(text.upper())  # RFC 3339 allows a small t and z
    except ValueError as e:
        raise ValueError(f"{text!r} is not a valid time: {e}") from e
    return (moment - _EPOCH) // _MILLISECOND


def epoch_ms(epoch: int | float | str) -> int:
    """An epoch in seconds or milliseconds, a number or a numeric text, as epoch milliseconds.

    Below 1e11 it is taken as seconds, else as milliseconds. Raises ValueError where it is no such number, is negative,
    or lies after the year 9999.

    >>> epoch_ms(1_700_000_000), epoch_ms("1700000000.25"), epoch_ms(1_700_000_000_000)
    (1700000000000, 1700000000250, 1700000000000)
    """
    if isinstance(epoch, bool):
        raise ValueError("is a boolean, not an epoch timestamp")
    if isinstance(epoch, str):
        if not _EPOCH_TEXT.fullmatch(epoch):
            raise ValueError("is not an epoch timestamp in seconds or milliseconds")
        epoch = float(epoch) if "." in epoch else int(epoch)
    if not 0 <= epoch < _EPOCH_END:  # not a number is never within
        raise ValueError("is negative" if epoch < 0 else "is not an epoch timestamp in seconds or milliseconds")
    return round(epoch * 1000) if epoch < SECONDS_BELOW else int(epoch)


def timestamp_ms(timestamp: int | float | str) -> int:
    """RFC 3339, or an epoch as `epoch_ms` takes it, as epoch milliseconds. Raises ValueError where it is neither.

    >>> timestamp_ms("1970-01-01T00:01:00Z"), timestamp_ms(60)
    (60000, 60000)
    """
    if isinstance(timestamp, str) and not _EPOCH_TEXT.fullmatch(timestamp):
        return from_rfc3339(timestamp)
    return epoch_ms(timestamp)
