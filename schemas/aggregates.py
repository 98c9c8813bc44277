"""States of aggregates as they travel, and how two become one: exact sums, and sketches of Apache DataSketches.

A sum of floats is kept as Shewchuk's expansion: a few floats that do not overlap and whose real sum is the exact sum
(J. R. Shewchuk, Adaptive Precision Floating-Point Arithmetic, 1997). It is made by `math.fsum`, which rounds an exact
sum correctly: the first part is the sum rounded, the second what that leaves rounded, and so on until nothing is left.
So it depends on the sum alone, not on the order of the values or on how they were grouped.

A sketch travels in the library's own serialized form, the same in its other languages.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

Number = int | float | Decimal
#: The library's `hll_sketch` and `hll_union`; it has no types.
Hll = Any
Union = Any

#: A number's magnitude is below this. It is far from where floats end (1.8e308), also after 1e15 of them.
LIMIT = 10**100
#: How many digits a Decimal may have after the point.
PLACES = 100
#: How many bytes a number and a `Total` take as MessagePack, at most: Decimals of up to 232 digits, ints as up to 96
#: hexadecimal ones, and expansions of the 29 floats or so that lie between 1e115 and 5e-324.
NUMBER_SIZE, TOTAL_SIZE = 256, 640
#: Digits before the point, after it, and for the number of summands. Every signal raises, so nothing is ever rounded.
EXACT = decimal.Context(prec=100 + PLACES + 32, traps=[*decimal.Context().traps])
#: A Decimal average has the digits of IEEE 754 decimal128.
_AVERAGE = decimal.Context(prec=34, rounding=decimal.ROUND_HALF_EVEN)
#: The first byte of a serialized sketch that has registers, and no list of values instead; and where they begin.
_REGISTERS, _HEAD = 10, 40


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

    def dump(self) -> list[Any]:
        """The sum as MessagePack has it."""
        ints, floats, decimals = self
        return [
            None if ints is None else pack(ints),
            None if floats is None else list(floats),
            None if decimals is None else str(decimals),
        ]

    @classmethod
    def load(cls, ints: int | str | None, floats: Sequence[float] | None, decimals: str | None) -> Total:
        """Returns the total that `dump` was called on."""
        return cls(
            int(ints, 16) if isinstance(ints, str) else ints,
            None if floats is None else tuple(floats),
            None if decimals is None else Decimal(decimals),
        )

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
        b.floats if a.floats is None else a.floats if b.floats is None else expansion(a.floats + b.floats),
        b.decimals if a.decimals is None else a.decimals if b.decimals is None else EXACT.add(a.decimals, b.decimals),
    )


def expansion(values: Iterable[float]) -> tuple[float, ...]:
    """The expansion of the sum of a few floats, largest part first.

    >>> expansion([1e16, 1.0, -1e16]), expansion([0.1] * 10)
    ((1.0,), (1.0, 5.551115123125783e-17))
    """
    rest, parts = [*values], []
    while part := math.fsum(rest):
        parts.append(part)
        rest.append(-part)
    return tuple(parts)


def pack(number: Number) -> int | float | str:
    """A number as MessagePack has it: a Decimal as text, an int of more than 64 bits as hexadecimal text (`0x…`)."""
    if isinstance(number, Decimal):
        return str(number)
    if isinstance(number, int) and not -(2**63) <= number < 2**64:
        return hex(number)
    return number


def unpack(plain: int | float | str) -> Number:
    """Returns the number that `pack` was called with.

    >>> unpack(pack(-(2**70))) == -(2**70), unpack(pack(Decimal("0.10")))
    (True, Decimal('0.10'))
    """
    if not isinstance(plain, str):
        return plain
    return int(plain, 16) if "x" in plain else Decimal(plain)


@cache
def library() -> Any:
    """Apache DataSketches. It imports numpy: 0.2 s, which a process without sketches does not pay."""
    import datasketches  # type: ignore[import-untyped]

    return datasketches


def union_of(sketch: Hll, lg_k: int | None = None) -> Union:
    """A union with one sketch in it, of as many registers as it has, or 2 ** `lg_k`."""
    union = library().hll_union(lg_k or sketch.lg_config_k)
    union.update(sketch)
    return union


def union_bytes(union: Union) -> bytes:
    """The sketch of a union, serialized with half a byte a register: the least that the library can make of it."""
    eighths: bytes = union.get_result(library().HLL_8).serialize_compact()
    if eighths[0] == _REGISTERS:
        return _as_hll_4(eighths)
    plain: bytes = union.get_result(library().HLL_4).serialize_compact()
    return plain


def _as_hll_4(eighths: bytes) -> bytes:
    """A serialized sketch with a byte a register as one with half a byte, in a fifth of the library's time.

    The format is DataSketches' own, the same in all its languages. After a head of 40 bytes the registers follow, each
    less the least of all, which is in the head; 15 stands for one of 15 and more, which then is in a list of its own.
    """
    import numpy

    registers = numpy.frombuffer(eighths, numpy.uint8, offset=_HEAD)
    least = registers.min()
    above = registers - least
    (far,) = numpy.nonzero(above >= 15) if above.max() >= 15 else (numpy.empty(0, numpy.int64),)
    pairs = numpy.minimum(above, 15).view("<u2")
    head = bytearray(eighths[:_HEAD])
    head[6], head[7] = least, 2  # the type is in the two bits above the mode, which is 2
    head[32:36] = (len(above) - int(numpy.count_nonzero(above))).to_bytes(4, "little")
    head[36:40] = len(far).to_bytes(4, "little")
    apart = (far | registers[far].astype(numpy.int64) << 26).astype("<u4")
    halves: bytes = (pairs | pairs >> 4).astype(numpy.uint8).tobytes()
    return bytes(head) + halves + apart.tobytes()
