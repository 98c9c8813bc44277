"""Numbers that can be aggregated, and their exact sums.

A sum of floats is kept as Shewchuk's expansion: a few floats that do not overlap and whose real sum is the exact sum
(J. R. Shewchuk, Adaptive Precision Floating-Point Arithmetic, 1997). It is made by `math.fsum`, which rounds an exact
sum correctly: the first part is the sum rounded, the second what that leaves rounded, and so on until nothing is left.
So it depends on the sum alone, not on the order of the values or on how they were grouped.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import reduce
from operator import countOf
from typing import Any, NamedTuple, cast

from schemas.dead_letters import Reason
from schemas.errors import PoisonError

Number = int | float | Decimal

#: A number's magnitude is below this. It is far from where floats end (1.8e308), also after 1e15 of them.
LIMIT = 10**100
#: How many digits a Decimal may have after the point.
PLACES = 100
#: How many bytes a number and a `Total` take as MessagePack, at most: Decimals of up to 232 digits, ints as up to 96
#: hexadecimal ones, and expansions of the 29 floats or so that lie between 1e115 and 5e-324.
NUMBER_SIZE, TOTAL_SIZE = 256, 640
#: Beyond this a batch is looked at number by number: `math.hypot` is no less than the largest magnitude, but rounded.
_SURELY_BELOW = 0.99e100
#: Digits before the point, after it, and for the number of summands. Every signal raises, so nothing is ever rounded.
EXACT = decimal.Context(prec=100 + PLACES + 32, traps=[*decimal.Context().traps])
#: A Decimal average has the digits of IEEE 754 decimal128.
_AVERAGE = decimal.Context(prec=34, rounding=decimal.ROUND_HALF_EVEN)
_ZERO = Decimal(0)
_PLAIN = (int, float, Decimal)


class Column(list[Any]):
    """The values of one field of several elements, each of which the aggregates over it have checked: they need not
    again. What more than one of them wants is found once.
    """

    __slots__ = ("_total", "kind")

    def __init__(self, values: Iterable[Any]) -> None:
        super().__init__(values)
        kind = type(self[0])
        self.kind: type | None = kind if countOf(map(type, self), kind) == len(self) else None  # of all of them
        self._total: Total | None = None

    @property
    def total(self) -> Total:
        """Their exact sum, where they are numbers."""
        if self._total is None:
            self._total = _total(self, checked(self))
        return self._total


class Total(NamedTuple):
    """An exact sum. The kinds are summed apart; None where there was no number of that kind.

    `floats` is an expansion, largest first, empty for 0. `decimals` has as many places as the summand with the most.
    """

    ints: int | None
    floats: tuple[float, ...] | None
    decimals: Decimal | None

    def rounded(self) -> Number:
        """The sum: an int of ints, a Decimal of Decimals and ints; with a float among them a float, rounded once."""
        if self.floats is None:
            return (self.ints or 0) if self.decimals is None else EXACT.add(self.decimals, self.ints or 0)
        if self.ints is None and self.decimals is None:
            return self.floats[0] if self.floats else 0.0
        numerator, denominator = self._ratio()
        return numerator / denominator

    def divided(self, count: int) -> float | Decimal:
        """The exact sum by `count`, rounded once: a Decimal of 34 digits where `rounded` is a Decimal, else a float."""
        if self.floats is None and self.decimals is not None:
            return _AVERAGE.divide(EXACT.add(self.decimals, self.ints or 0), count)
        numerator, denominator = self._ratio()
        return numerator / (denominator * count)  # ints: Python rounds their quotient correctly

    def _ratio(self) -> tuple[int, int]:
        ratios = [part.as_integer_ratio() for part in self.floats or ()]
        denominator = max((d for _, d in ratios), default=1)  # a power of two, as all of them
        numerator = sum(n * (denominator // d) for n, d in ratios) + (self.ints or 0) * denominator
        if self.decimals is None:
            return numerator, denominator
        n, d = self.decimals.as_integer_ratio()
        return numerator * d + n * denominator, denominator * d


def add(a: Total, b: Total) -> Total:
    """The exact sum of two sums."""
    return Total(
        b.ints if a.ints is None else a.ints if b.ints is None else a.ints + b.ints,
        b.floats if a.floats is None else a.floats if b.floats is None else _expansion([*a.floats, *b.floats]),
        b.decimals if a.decimals is None else a.decimals if b.decimals is None else EXACT.add(a.decimals, b.decimals),
    )


def total(values: Sequence[Any]) -> Total:
    """The exact sum of numbers, none of which needs to be checked; raises PoisonError where `check` would."""
    return values.total if isinstance(values, Column) else _total(values, checked(values))


def _total(values: Sequence[Any], kind: type[Number] | None) -> Total:
    if kind is float:
        return Total(None, _float_sum(values), None)
    if kind is int:
        return Total(sum(values), None, None)
    if kind is Decimal:
        return Total(None, None, _decimal_sum(values))
    ints = [int(v) for v in values if isinstance(v, int)]
    floats = [float(v) for v in values if isinstance(v, float)]
    decimals = [v for v in values if isinstance(v, Decimal)]
    return Total(
        sum(ints) if ints else None,
        _float_sum(floats) if floats else None,
        _decimal_sum(decimals) if decimals else None,
    )


def check(value: object) -> None:
    """Raises PoisonError for what is no finite int, float or Decimal within LIMIT and PLACES. A bool is no number."""
    if isinstance(value, bool) or not isinstance(value, _PLAIN):
        raise PoisonError(Reason.INVALID, f"not a number but {type(value).__name__}")
    if not (value.is_finite() if isinstance(value, Decimal) else isinstance(value, int) or math.isfinite(value)):
        raise PoisonError(Reason.INVALID, f"not a finite number: {value}")
    if not -LIMIT < value < LIMIT:
        raise PoisonError(Reason.INVALID, "a number of 1e100 or more, or of -1e100 or less")
    if isinstance(value, Decimal) and _places(value) > PLACES:
        raise PoisonError(Reason.INVALID, f"a number with more than {PLACES} digits after the point")


def checked(values: Sequence[Any]) -> type[Number] | None:
    """The kind of number that all of them are; None where they are of several, or of a kind derived from these.

    Raises PoisonError where `check` would for one of them.
    """
    if isinstance(values, Column):
        return values.kind if values.kind in _PLAIN else None
    kind = type(values[0])
    if kind not in _PLAIN or countOf(map(type, values), kind) < len(values):
        _check_each(values)
        return None
    try:
        if kind is Decimal:
            good = min(values) > -LIMIT and max(values) < LIMIT and _places(_decimal_sum(values)) <= PLACES
        else:
            good = math.hypot(*values) < _SURELY_BELOW  # not a number is never below
    except ArithmeticError:  # an int too large for a float; a Decimal that compares with nothing, or cannot be added
        good = False
    if not good:
        _check_each(values)
    return cast("type[Number]", kind)


def _check_each(values: Iterable[object]) -> None:
    for value in values:
        check(value)


def _places(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else PLACES + 1  # no int: not finite


def _decimal_sum(values: Iterable[Decimal]) -> Decimal:
    return reduce(EXACT.add, values, _ZERO)


def _float_sum(values: Sequence[float]) -> tuple[float, ...]:
    """The expansion of the sum of many. `fsum` is a pass over them: two do where the naive sum is the first part."""
    if len(values) == 1:
        return (values[0],) if values[0] else ()
    parts = [sum(values)]  # not exact, and may be 0 where the sum is not
    rest = [*values, -parts[0]]
    while part := math.fsum(rest):
        parts.append(part)
        rest.append(-part)
    return _expansion(parts)


def _expansion(values: list[float]) -> tuple[float, ...]:
    """The expansion of the sum of a few. `values` is used up."""
    parts = []
    while part := math.fsum(values):
        parts.append(part)
        values.append(-part)
    return tuple(parts)


def pack(number: Number) -> int | float | str:
    """A number as MessagePack has it: a Decimal as text, an int of more than 64 bits as hexadecimal text (`0x…`)."""
    if isinstance(number, Decimal):
        return str(number)
    if isinstance(number, int) and not -(2**63) <= number < 2**64:
        return hex(number)
    return number


def unpack(plain: int | float | str) -> Number:
    """What `pack` was given.

    >>> unpack(pack(-(2**70))) == -(2**70), unpack(pack(Decimal("0.10")))
    (True, Decimal('0.10'))
    """
    if not isinstance(plain, str):
        return plain
    return int(plain, 16) if "x" in plain else Decimal(plain)
