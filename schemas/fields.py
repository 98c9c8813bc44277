"""Fields that come from outside: ids, opaque strings of 1 to 128 printable characters (`str.isprintable`), and numbers
as people send them, JSON numbers or numeric texts, taken exactly.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

import msgspec

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
#: How many digits a number may have before the point.
DIGITS = 100
#: A number's magnitude is below this.
LIMIT = 10**DIGITS
#: How many digits a number may have after the point.
PLACES = 100
#: How many digits a sum may have before the point: 1e32 numbers add up to no more.
SUM_DIGITS = DIGITS + 32
#: A JSON number (RFC 8259), and what people write in a text besides: a sign, zeros before the number.
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,9})?", re.ASCII)


def check_id(value: str, field: str) -> str:
    """The id itself, or ValueError where it is not 1 to 128 printable characters."""
    if not 1 <= len(value) <= 128:
        raise ValueError(f"`{field}` has {len(value)} characters, 1 to 128 are allowed")
    if not value.isprintable():
        raise ValueError(f"`{field}` holds a character that is not printable")
    return value


def exact(text: str, digits: int = DIGITS) -> Decimal:
    """The number that a text says, exactly. Raises ValueError, which says why, for anything else.

    It has at most `digits` digits before the point, and 100 after it.

    >>> exact("0.1"), exact("-1e3")
    (Decimal('0.1'), Decimal('-1E+3'))
    """
    if len(text) > 256 or not _NUMBER.fullmatch(text):
        raise ValueError("is not a finite number")
    number = Decimal(text)
    exponent = number.as_tuple().exponent
    if number and number.adjusted() >= digits:
        raise ValueError(f"is out of range; allowed: between -1e{digits} and 1e{digits}")
    if isinstance(exponent, int) and -exponent > PLACES:
        raise ValueError(f"has more than {PLACES} digits after the point")
    return number if number else Decimal(0)


def written(number: Decimal) -> str:
    """A finite number as JSON has it: all its digits, none to spare.

    >>> written(Decimal("100.0")), written(Decimal("-0.50")), written(Decimal("1E+3")), written(Decimal("-0"))
    ('100', '-0.5', '1000', '0')
    """
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
