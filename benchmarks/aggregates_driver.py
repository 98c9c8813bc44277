"""HTTP requests at a steady rate, each timed from when it is due to its answer's last byte. Used by aggregates_api.py.

    python -m benchmarks.aggregates_driver --port 8091 --minutes 60 --types 1000 --rate 50 --seconds 60

Requests of GET /aggregates and of GET /health take turns, so many a second of each; one that is due does not wait for
those before it. Prints one line of JSON: both latencies in ms, what was no answer, and how old the answers were.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from benchmarks.bench import quantiles
from weir.schemas.times import from_rfc3339


class Connections:
    """Kept-alive connections; more are made where all are in use."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of an answer."""
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        body = await reader.readexactly(int(length.split(b":")[1]))
        self._free.append((reader, writer))
        return int(head.split(b" ", 2)[1]), body


class Driver:
    def __init__(self, a: argparse.Namespace) -> None:
        self._a = a
        self._connections = Connections(a.port)
        self.latencies: dict[str, list[float]] = {"aggregates": [], "health": []}
        self.ages: list[float] = []
        self.failed = 0

    async def ask(self, what: str, due: float) -> None:
        path = "/health" if what == "health" else f"/aggregates?minutes={self._a.minutes}"
        status, body = await self._connections.get(path)
        self.latencies[what].append((time.time() - due) * 1000)
        if status != 200 or (what == "aggregates" and body.count(b'"p99":') != self._a.types):
            self.failed += 1
        elif what == "aggregates":
            as_of = body[body.index(b'"as_of":"') + 9 :]
            self.ages.append(time.time() * 1000 - from_rfc3339(as_of[: as_of.index(b'"')].decode()))

    async def run(self) -> None:
        asked = []
        begun, step = time.time(), 1 / self._a.rate / 2
        for number in range(int(self._a.rate * self._a.seconds * 2)):
            due = begun + number * step
            if (wait := due - time.time()) > 0:
                await asyncio.sleep(wait)
            asked.append(asyncio.create_task(self.ask(("aggregates", "health")[number % 2], due)))
        await asyncio.gather(*asked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--types", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    driver = Driver(parser.parse_args())
    asyncio.run(driver.run())
    found: dict[str, object] = {f"{what}_ms": quantiles(times) for what, times in driver.latencies.items()}
    found |= {"requests": len(driver.latencies["aggregates"]), "failed": driver.failed}
    print(json.dumps(found | {"age_ms": quantiles(driver.ages)}), flush=True)


if __name__ == "__main__":
    main()
