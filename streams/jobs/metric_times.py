"""The times of many metric events at once: what `weir.schemas.times.timestamp_ms` says of each, many times faster.

Texts in RFC 3339 are read in pieces that come again and again: the seconds since 1970, the milliseconds, and what
follows (more digits, the offset). Each piece is read once by `from_rfc3339` itself, so what it refuses is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from weir.schemas.times import SECONDS_BELOW, from_rfc3339, timestamp_ms

Timestamp = str | int | float

#: So many pieces of a kind are remembered, and none that is longer than this: whatever comes, they take a few MB.
PIECES, LONGEST = 1 << 14, 19
#: A date whose neighbours are in the calendar too, whatever the offset from UTC.
_DAY, _DAY_MS = "1970-01-02T00:00:00", 86_400_000


class _Pieces(dict[str, int]):
    """Pieces of texts to what they are worth, in ms; each is read once."""

    def __init__(self, read: Callable[[str], int]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, piece: str) -> int:
        worth = self._read(piece)
        if len(piece) <= LONGEST:
            if len(self) >= PIECES:
                self.clear()
            self[piece] = worth
        return worth


_seconds = _Pieces(lambda text: from_rfc3339(text + "Z"))
_millis = {f".{n:03}": n for n in range(1000)}
_after_millis = _Pieces(lambda text: from_rfc3339(_DAY + ".000" + text) - _DAY_MS)
_after_seconds = _Pieces(lambda text: from_rfc3339(_DAY + text) - _DAY_MS)


def timestamps_ms(stamps: Sequence[Timestamp]) -> Sequence[int]:
    """The epoch milliseconds of timestamps, at least one. Raises ValueError where `timestamp_ms` would for one of them.

    >>> timestamps_ms(["1970-01-01T00:01:00Z", "1970-01-01T00:01:00.0019+00:01"]), timestamps_ms([60, 0.5])
    ([60000, 1], [60000, 500])
    """
    kinds = set(map(type, stamps))
    try:
        if kinds == {str}:
            return _texts(stamps)  # type: ignore[arg-type]
        if kinds <= {int, float}:
            return _numbers(stamps, kinds == {int})  # type: ignore[arg-type]
    except ValueError:
        pass  # numeric texts, or one that is refused: which, and why, is said below
    return [timestamp_ms(stamp) for stamp in stamps]


def _texts(texts: Sequence[str]) -> list[int]:
    try:
        return [_seconds[t[:19]] + _millis[t[19:23]] + _after_millis[t[23:]] for t in texts]
    except KeyError:  # not all have milliseconds
        return [_seconds[t[:19]] + _after_seconds[t[19:]] for t in texts]


def _numbers(numbers: Sequence[int | float], ints: bool) -> Sequence[int]:
    """Not a number is not found by its order; then `round` and `int` raise ValueError."""
    least, greatest = min(numbers), max(numbers)
    if least >= SECONDS_BELOW:
        timestamp_ms(greatest)
        return numbers if ints else list(map(int, numbers))  # type: ignore[return-value]
    if least >= 0 and greatest < SECONDS_BELOW:
        return [round(number * 1000) for number in numbers]
    return [timestamp_ms(number) for number in numbers]
