"""JSON records to typed elements, and what is wrong with those that are not.

A record's value is one JSON object or an array of them. `Decoder.elements` is the whole way; a job whose input
must be fast calls `Decoder.fast` first, which accepts exactly the well-formed records, and turns to `elements`
for the rest, so that each bad element of an array goes to the dead letters alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import msgspec

from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError

T = TypeVar("T")

#: What msgspec raises for bytes it cannot turn into the type: malformed JSON (DecodeError and its subclass
#: ValidationError), bytes that are not UTF-8, nesting deeper than the interpreter's stack.
BAD_INPUT = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Decoder(Generic[T]):
    """Decodes records of one type. Made once, used for every record; holds no state.

    `check`, where given, is called with every element and raises ValueError where it is not acceptable.
    """

    def __init__(self, type_: type[T], check: Callable[[T], object] | None = None) -> None:
        self.fast: Callable[[bytes], T | list[T]] = msgspec.json.Decoder(type_ | list[type_]).decode  # type: ignore[valid-type]
        self._one: Callable[[bytes | msgspec.Raw], T] = msgspec.json.Decoder(type_).decode
        self._raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
        self._check = check

    def one(self, value: bytes | msgspec.Raw) -> T:
        """Decodes one element. Raises PoisonError with the reason and a detail."""
        try:
            element = self._one(value)
            if self._check:
                self._check(element)
        except BAD_INPUT as e:
            raise poison(e) from e
        except ValueError as e:
            raise PoisonError(Reason.INVALID, str(e)) from e
        return element

    def elements(self, value: bytes | None) -> Iterator[tuple[T | PoisonError, bytes]]:
        """Every element of a record's value, each with its raw bytes; a bad one as the error that says why.

        A record that is no JSON at all, or an empty list, is one bad element.
        """
        if not value:
            yield PoisonError(Reason.EMPTY, "the record has no value"), value or b""
            return
        if value.lstrip(b" \t\r\n")[:1] != b"[":
            raws = [value]
        else:
            try:
                raws = [bytes(raw) for raw in self._raws(value)]
            except BAD_INPUT as e:
                yield poison(e), value
                return
            if not raws:
                yield PoisonError(Reason.EMPTY, "the list is empty"), value
                return
        for raw in raws:
            try:
                yield self.one(raw), raw
            except PoisonError as e:
                yield e, raw


def poison(error: Exception) -> PoisonError:
    """Converts an error of msgspec into the reason and detail of a dead letter."""
    if isinstance(error, RecursionError):
        return PoisonError(Reason.NESTING, "nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return PoisonError(Reason.NOT_UTF8, f"not UTF-8: {error.reason} at byte {error.start} of a string")
    if isinstance(error, msgspec.ValidationError):
        return PoisonError(Reason.INVALID, str(error))
    return PoisonError(Reason.NOT_JSON, str(error))
