"""The topics of Kafka's exactly-once system test: keys are text, values are Java Integers and Longs, big-endian."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct, error

from weir.schemas.codec import Decoder
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.topic import ANY_TIMESTAMP, FOR_EVER, STATE, Topic

#: A value tells its key, which is the value divided by this: a job of weir sees an element, not the record's key.
SPREAD = 10_000
#: How many keys there are, as in EosTestDriver.
KEYS = 20_000

integer, long = Struct(">i").pack, Struct(">q").pack
_unpack = Struct(">i").unpack


def integer_of(value: bytes) -> int:
    """The Java Integer that four bytes are. Raises ValueError for other bytes."""
    try:
        return int(_unpack(value)[0])
    except error as e:
        raise ValueError(f"{len(value)} bytes are no Java Integer") from e


def key_of(element: int) -> str:
    """The key of a value of `data`, and of everything that comes of this value."""
    return str(element // SPREAD)


class Integers(Decoder[int]):
    """Reads records that are one Java Integer each."""

    def __init__(self) -> None:
        super().__init__(int)
        self.fast = integer_of

    def elements(self, value: bytes | None) -> Iterator[tuple[int | PoisonError, bytes]]:
        raw = value or b""
        try:
            yield integer_of(raw), raw
        except ValueError as e:
            yield PoisonError(Reason.INVALID, str(e)), raw


@dataclass(frozen=True)
class IntegerTopic(Topic):
    """A topic of Java Integers that a job reads."""

    def decoder(self) -> Integers:
        return Integers()


_KEEP = FOR_EVER | ANY_TIMESTAMP
_KEY = f"the value divided by {SPREAD}, as text"

DATA = IntegerTopic("data", "producers", "what is sent", _KEY, int, config=_KEEP)
REPARTITION = IntegerTopic("repartition", "streams/EosTest", "what was sent, once more", _KEY, int, config=_KEEP)
ECHO, MIN, SUM, MAX, CNT = (
    Topic(name, "streams/EosTest", f"{name} of a key after each value", _KEY, None, config=_KEEP)
    for name in ("echo", "min", "sum", "max", "cnt")
)
MIN_SUM = Topic("eos-min-sum", "streams/EosTest", "state by key", _KEY, None, config=STATE, internal=True)
MAX_CNT = Topic("eos-max-cnt", "streams/EosTest-2", "state by key", _KEY, None, config=STATE, internal=True)

#: What the verifier reads.
JUDGED = (DATA, ECHO, REPARTITION, MIN, SUM, MAX, CNT)
TOPICS = (*JUDGED, MIN_SUM, MAX_CNT)
