"""JSON libraries on one communication of 149 bytes: nanoseconds per record, the best of five rounds.

python -m benchmarks.json_codecs
"""

from __future__ import annotations

import json
import timeit
from collections.abc import Callable

import msgspec
import orjson

from weir.schemas.codec import Decoder
from weir.schemas.links import Communication

RECORD = (
    b'{"source":"e7924178-0132-4730-9c79-89fed571567f","destination":"f3f83156-2ad0-45fa-938f-591e477a1743",'
    b'"method":"GET","path":"/list","httpStatus":400}'
)
ROUNDS, CALLS = 5, 200_000


def main() -> None:
    """Prints a line per way."""
    element, mapping = Decoder(Communication).one(RECORD), json.loads(RECORD)
    encode = msgspec.json.Encoder().encode
    ways: dict[str, Callable[[], object]] = {
        "decode: json": lambda: json.loads(RECORD),
        "decode: orjson": lambda: orjson.loads(RECORD),
        "decode: msgspec, no type": lambda: msgspec.json.decode(RECORD),
        "decode and check: msgspec, Communication": _call(Decoder(Communication).fast),
        "encode a dict: json": lambda: json.dumps(mapping),
        "encode a dict: orjson": lambda: orjson.dumps(mapping),
        "encode a dict: msgspec": lambda: encode(mapping),
        "encode a Communication: msgspec": lambda: encode(element),
    }
    for name, way in ways.items():
        best = min(timeit.repeat(way, number=CALLS, repeat=ROUNDS)) / CALLS
        print(f"{name:42} {best * 1e9:6.0f} ns")


def _call(decode: Callable[[bytes], object]) -> Callable[[], object]:
    return lambda: decode(RECORD)


if __name__ == "__main__":
    main()
