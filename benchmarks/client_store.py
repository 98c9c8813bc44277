"""The database of monitored clients: bytes per event, and how long taking one in and dumping one takes. No Kafka.

    python -m benchmarks.client_store [--events 1000000]

Each case has a process of its own. An event has a UUID as its id and a value of four digits: 42 bytes together, as
JSON. `long`: series of 10 000 events, in order; `shuffled`: the same, out of order within a minute's worth of 600;
`short`: series of one event, each of a client's 100 keys; `distinct`: the same of 4 keys, `names`: with ids of 128
characters; `large`: series of 100 events of 2 000 bytes, a tenth of the events; `totals`: a sum for each of a client's
4 keys; `bounded`: as `distinct`, in a store that may take 64 MiB, so that keys go as others come. Figures: bytes of
resident memory per event over what the process had before, what the store itself counts, how many times the latter the
former is, and what the same events take as dicts in a list; microseconds per event taken in and per event dumped, in
pages of 10 000.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weir.consumers.monitoring.clients import ClientStore, Query
from weir.consumers.monitoring.series import pack

CASES = ("long", "shuffled", "short", "distinct", "names", "large", "totals", "bounded", "dicts")
LONG, KEYS, FEW, AT_ONCE = 10_000, 100, 4, 600
LARGE, BOUND = 2_000, 64 << 20
START = 1_700_000_000_000


def events(case: str, count: int) -> Iterator[tuple[str, str, int, int]]:
    """Client, key, time and number of each."""
    rng = random.Random(1)
    if case == "short":
        yield from ((f"client-{n // KEYS}", f"key-{n % KEYS}", START + n, n) for n in range(count))
        return
    if case in ("distinct", "totals", "bounded"):
        yield from ((f"client-{n // FEW}", f"key-{n}", START + n, n) for n in range(count))
        return
    if case == "names":
        yield from ((f"client-{n // FEW:0121}", f"key-{n:0124}", START + n, n) for n in range(count))
        return
    if case == "large":
        yield from ((f"client-{n // LONG}", f"key-{n // KEYS}", START + n, n) for n in range(count))
        return
    for first in range(0, count, AT_ONCE):
        numbers = list(range(first, min(first + AT_ONCE, count)))
        if case == "shuffled":
            rng.shuffle(numbers)
        yield from ((f"client-{n // LONG}", "cpu", START + n * 100, n) for n in numbers)


def resident() -> int:
    """Bytes of memory that this process has."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def measure(case: str, count: int) -> dict[str, float]:
    """One case in this process."""
    rng = random.Random(2)
    count //= 10 if case == "large" else 1
    store = ClientStore(BOUND if case == "bounded" else 1 << 40)
    plain: list[Any] = []
    gc.disable()
    before, spent = resident(), 0.0
    for client, key, event_time, number in events(case, count):
        event_id = str(uuid.UUID(int=rng.getrandbits(128)))
        value = b"%d" % rng.randrange(1000, 10_000) if case != "large" else b'"%b"' % (b"x" * LARGE)
        if case == "dicts":
            plain.append({"event_id": event_id, "event_timestamp": event_time, "event_value": int(value)})
            continue
        begun = time.perf_counter()
        place = (event_time, number << 16)
        if case == "totals":
            store.total(client, key, b'{"event_type":"CUMULATIVE","event_value":%b,"events":1}' % value)
        else:
            store.event(client, key, place, pack(place, b'"%b"' % event_id.encode(), value))
        spent += time.perf_counter() - begun
    found = {"bytes_per_event": (resident() - before) / count}
    if case == "dicts":
        return found
    facts = store.facts()
    found["counted_per_event"] = (facts["bytes"] + facts["total_bytes"]) / count
    found["of_counted"] = found["bytes_per_event"] / found["counted_per_event"]
    found["taken_in_us"] = spent / count * 1e6
    if case == "totals":
        return found
    begun, dumped = time.perf_counter(), 0
    for client, _ in store.clients(None, count)[0]:
        page = store.dump(client, Query(limit=10_000))
        assert page is not None
        dumped += b"".join(page.pieces()).count(b'"event_id"')
        if time.perf_counter() - begun > 5:
            break
    found["dumped_us"] = (time.perf_counter() - begun) / dumped * 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--case", choices=CASES, help="this one alone, in this process")
    chosen = parser.parse_args()
    if chosen.case:
        print(json.dumps(measure(chosen.case, chosen.events)))
        return
    for case in CASES:
        command = [sys.executable, "-m", "benchmarks.client_store", "--events", str(chosen.events), "--case", case]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        print(json.dumps({"case": case, **{name: round(value, 2) for name, value in found.items()}}), flush=True)


if __name__ == "__main__":
    main()
