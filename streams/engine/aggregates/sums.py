"""Numbers that can be aggregated: what is checked of them, and their `Total`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import reduce
from operator import countOf
from typing import Any, cast

from weir.schemas.aggregates import EXACT, LIMIT, PLACES, Number, Total, expansion
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError

#: Beyond this a batch is looked at number by number: `math.hypot` is no less than the largest magnitude, but rounded.
_SURELY_BELOW = 0.99e100
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
        raise PoisonError(Reason.INVALID, "the number's magnitude is 1e100 or more")
    if isinstance(value, Decimal) and _places(value) > PLACES:
        raise PoisonError(Reason.INVALID, f"the number has more than {PLACES} digits after the point")


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
    return expansion(parts)
