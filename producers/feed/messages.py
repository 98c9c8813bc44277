"""Splits a feed's message into relations, communications and refused elements. Pure.

A message is one element or an array of them; each element goes by its own kind, in order. The good case, a message
that holds communications only, costs one decode and no copy: the message itself becomes the record.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from weir.schemas.codec import BAD_INPUT, Decoder
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.links import Communication, Relation, check_relation
from weir.schemas.topic import MAX_RECORD

#: The largest record value that is produced: what a topic takes, less the room for the record's own overhead.
MAX_VALUE = MAX_RECORD - 4096


@dataclass(frozen=True, slots=True)
class Relations:
    """Relations that follow one another, as (key, value) of their records."""

    records: list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Communications:
    """Communications that follow one another, as the value of one record, which holds `count` of them."""

    value: bytes
    count: int


@dataclass(frozen=True, slots=True)
class RefusedElement:
    """An element, or where `element` is None the whole message, that is neither; `raw` is its bytes as they came."""

    reason: str
    detail: str
    raw: bytes
    element: int | None = None


Part = Relations | Communications | RefusedElement


class Classifier:
    """Takes messages apart. Holds no state; `max_value` is the largest record value in bytes."""

    def __init__(self, max_value: int = MAX_VALUE) -> None:
        self._communications = Decoder(Communication)
        self._relations = Decoder(Relation, check_relation)
        self._max_value = max_value

    def parts(self, message: bytes) -> list[Part]:
        """The parts of a message in order. Never raises; every element is in exactly one part."""
        if _is_utf8(message):
            try:
                found = self._communications.fast(message)
            except BAD_INPUT:
                pass  # not communications only: taken apart below
            else:
                count = len(found) if isinstance(found, list) else 1
                if count and len(message) <= self._max_value:
                    return [Communications(message, count)]
        return self._one_by_one(message)

    def _one_by_one(self, message: bytes) -> list[Part]:
        gathered = _Gathered(self._max_value)
        for index, (found, raw) in enumerate(self._communications.elements(message)):
            place = None if raw is message else index
            try:
                element = self._element(found, raw)
            except PoisonError as e:
                gathered.refuse(RefusedElement(e.reason, e.detail, raw, place))
            else:
                gathered.add(element, raw, place)
        return gathered.parts()

    def _element(self, found: Communication | PoisonError, raw: bytes) -> Communication | Relation:
        """The element, or PoisonError with the reason that fits what it was meant to be."""
        if not _is_utf8(raw):
            raise PoisonError(Reason.NOT_UTF8, "not UTF-8")
        if isinstance(found, Communication):
            return found
        if found.reason != Reason.INVALID:
            raise found
        try:
            return self._relations.one(raw)
        except PoisonError as e:
            if b'"parent"' in raw or b'"child"' in raw:
                raise
            if b'"source"' in raw or b'"destination"' in raw:
                raise found from e
            raise PoisonError(found.reason, f"neither a relation nor a communication: {found.detail}") from e


class _Gathered:
    """Puts elements of one kind that follow one another into one part."""

    def __init__(self, max_value: int) -> None:
        self._max_value = max_value
        self._parts: list[Part] = []
        self._raws: list[bytes] = []
        self._size = 0

    def add(self, element: Communication | Relation, raw: bytes, place: int | None) -> None:
        if isinstance(element, Relation):
            self._close()
            if not (self._parts and isinstance(self._parts[-1], Relations)):
                self._parts.append(Relations([]))
            self._parts[-1].records.append((element.child.encode(), msgspec.json.encode(element)))  # type: ignore[union-attr]
            return
        if len(raw) + 2 > self._max_value:
            detail = f"{len(raw)} bytes, where a record holds {self._max_value - 2}"
            self.refuse(RefusedElement(Reason.TOO_LARGE, detail, raw, place))
            return
        if self._size + len(raw) + 2 > self._max_value:
            self._close()
        self._raws.append(raw)
        self._size += len(raw) + 1

    def refuse(self, refused: RefusedElement) -> None:
        self._close()
        self._parts.append(refused)

    def parts(self) -> list[Part]:
        self._close()
        return self._parts

    def _close(self) -> None:
        if self._raws:
            self._parts.append(Communications(b"[" + b",".join(self._raws) + b"]", len(self._raws)))
            self._raws = []
            self._size = 0


def _is_utf8(raw: bytes) -> bool:
    """msgspec checks the strings that it reads, not those that it skips."""
    if raw.isascii():
        return True
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
