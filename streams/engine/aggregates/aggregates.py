"""The aggregates of a windowed job. Each is a pure monoid: values are folded and states merged in any order.

`Count`, `Sum`, `Avg`, `Min` and `Max` are exact: their states and results depend on the values alone, not on order or
grouping. A number is an int, a float or a `decimal.Decimal`, finite, of a magnitude below 1e100, a Decimal with at most
100 digits after the point; a bool is none. Within these bounds nothing can overflow for 1e15 values and more. Where the
kinds are mixed, ints and Decimals give a Decimal, and anything with a float a float; still exact, and rounded once.
`Distinct` and `Quantiles` are sketches, within stated bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Protocol

from weir.schemas.aggregates import NUMBER_SIZE, TOTAL_SIZE, Number, Total, add, pack, unpack
from weir.streams.engine.aggregates import sums
from weir.streams.engine.aggregates.sketches import Distinct, Quantiles

__all__ = ["Aggregate", "Avg", "Count", "Distinct", "Field", "Max", "Min", "Quantiles", "Sum"]

#: Where the value comes from: the name of an element's attribute, or a function of the element.
Field = str | Callable[[Any], Any]


class Aggregate(Protocol):
    """An aggregate. `field` says where its values come from; None: it needs none, and `values` are only counted.

    `check` raises PoisonError for a value that cannot be aggregated; `check_all` and `fold` do where `check` would for
    one of the values; then the state is what it was. It is None where there is nothing yet; `values` are never empty. A
    `sums.Column` of them was checked.
    `fold` and `merge` may change and return the state that comes first; they never change the second.
    `dump` makes of a state what MessagePack has types for, and `load` a state of that, also where tuples became lists.
    `size`: how many bytes that takes there at most, whatever comes. A job whose topics do not take it is refused.
    """

    @property
    def field(self) -> Field | None: ...
    @property
    def size(self) -> int: ...
    def check(self, value: Any) -> None: ...
    def check_all(self, values: Sequence[Any]) -> object: ...
    def fold(self, state: Any, values: Sequence[Any]) -> Any: ...
    def merge(self, a: Any, b: Any) -> Any: ...
    def dump(self, state: Any) -> Any: ...
    def load(self, plain: Any) -> Any: ...
    def result(self, state: Any) -> Any: ...


@dataclass(frozen=True)
class Count:
    """How many there are: an int."""

    field: None = None
    size: ClassVar[int] = 9

    def check(self, value: object) -> None:
        """Anything can be counted."""

    def check_all(self, values: Sequence[Any]) -> None:
        """See check."""

    def fold(self, state: int | None, values: Sequence[Any]) -> int:
        return (state or 0) + len(values)

    def merge(self, a: int, b: int) -> int:
        return a + b

    def dump(self, state: int) -> int:
        return state

    def load(self, plain: int) -> int:
        return plain

    def result(self, state: int) -> int:
        return state


@dataclass(frozen=True)
class Sum:
    """The exact sum, rounded once where it is a float: 1000 times 0.1 is 100.0.

    >>> total = Sum("amount")
    >>> total.result(total.fold(None, [1e16, 1.0, -1e16]))
    1.0
    """

    field: Field
    size: ClassVar[int] = TOTAL_SIZE

    check = staticmethod(sums.check)
    check_all = staticmethod(sums.checked)

    def fold(self, state: Total | None, values: Sequence[Any]) -> Total:
        new = sums.total(values)
        return new if state is None else add(state, new)

    def merge(self, a: Total, b: Total) -> Total:
        return add(a, b)

    def dump(self, state: Total) -> list[Any]:
        return state.dump()

    def load(self, plain: Sequence[Any]) -> Total:
        return Total.load(*plain)

    def result(self, state: Total) -> Number:
        return state.rounded()


@dataclass(frozen=True)
class Avg:
    """The exact sum by the count, rounded once: a float, of Decimals a Decimal of 34 digits (IEEE 754 decimal128)."""

    field: Field
    size: ClassVar[int] = 9 + TOTAL_SIZE

    check = staticmethod(sums.check)
    check_all = staticmethod(sums.checked)

    def fold(self, state: tuple[int, Total] | None, values: Sequence[Any]) -> tuple[int, Total]:
        new = len(values), sums.total(values)
        return new if state is None else self.merge(state, new)

    def merge(self, a: tuple[int, Total], b: tuple[int, Total]) -> tuple[int, Total]:
        return a[0] + b[0], add(a[1], b[1])

    def dump(self, state: tuple[int, Total]) -> list[Any]:
        return [state[0], *state[1].dump()]

    def load(self, plain: Sequence[Any]) -> tuple[int, Total]:
        count, *parts = plain
        return count, Total.load(*parts)

    def result(self, state: tuple[int, Total]) -> float | Decimal:
        return state[1].divided(state[0])


@dataclass(frozen=True)
class Min:
    """The least number, as it came, but zero without a sign.

    Of equal ones an int is taken before a float, a float before a Decimal, and the Decimal with the most places.
    """

    field: Field
    size: ClassVar[int] = NUMBER_SIZE
    _best: ClassVar[Any] = min

    check = staticmethod(sums.check)
    check_all = staticmethod(sums.checked)

    def fold(self, state: Number | None, values: Sequence[Any]) -> Number:
        new = self._choose(values, sums.checked(values))
        return new if state is None else self.merge(state, new)

    def merge(self, a: Number, b: Number) -> Number:
        return self._choose((a, b), type(a) if type(a) is type(b) else None)

    def _choose(self, values: Sequence[Any], kind: type[Number] | None) -> Number:
        """The best of numbers that are all of one kind, or (None) of several."""
        best: Any = type(self)._best(values)
        if kind is int or kind is float:
            return best or kind()  # no -0.0
        best = min((value for value in values if value == best), key=_preference)
        if isinstance(best, Decimal):
            return Decimal(best) if best else Decimal(best).copy_abs()
        return int(best) if isinstance(best, int) else float(best) or 0.0

    def dump(self, state: Number) -> int | float | str:
        return pack(state)

    def load(self, plain: int | float | str) -> Number:
        return unpack(plain)

    def result(self, state: Number) -> Number:
        return state


class Max(Min):
    """The greatest number, as it came, but zero without a sign. Of equal ones the same is taken as by `Min`."""

    _best = max


def _preference(number: Number) -> tuple[int, int]:
    if isinstance(number, Decimal):
        exponent = number.as_tuple().exponent
        return 2, exponent if isinstance(exponent, int) else 0
    return (0 if isinstance(number, int) else 1), 0
