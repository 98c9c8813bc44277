"""From a clean clone to the first counts: `make run` with nothing cached, where the registries give so many MB/s.

    python -m benchmarks.first_run --megabytes-per-second 5

All downloads go through a proxy of this benchmark's own (`HTTPS_PROXY`), which lets through so many bytes a second in
all. Caches and home are empty folders. The clone is of what is committed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from weir.infra.ports import free_ports

ROOT = Path(__file__).parents[1]
#: A run that has come no further is given up after this many seconds.
PATIENCE_S = 900.0
#: What `weir demo` prints where it has no terminal: calls that were sent, and how many of them are counted.
COUNTED = re.compile(r"counted ([1-9][\d,]*)")
CHUNK = 1 << 16


class Bandwidth:
    """Limits the bytes per second of all connections together (a token bucket that holds a twentieth of a second)."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._free_at = 0.0
        #: Bytes that passed, by the host they came from.
        self.passed: Counter[str] = Counter()

    async def take(self, host: str, size: int) -> None:
        """Returns once so many bytes of the host may pass."""
        now = time.monotonic()
        self._free_at = max(self._free_at, now - 0.05) + size / self._per_second
        self.passed[host] += size
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


async def tunnel(bandwidth: Bandwidth, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serves one CONNECT request (RFC 9110, 9.3.6); what comes back is held to the bandwidth."""
    try:
        method, target, _ = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode().split()
        if method != "CONNECT":
            writer.write(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            return
        host, _, port = target.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        async with asyncio.TaskGroup() as group:
            group.create_task(copy(reader, far_writer, lambda size: asyncio.sleep(0)))
            group.create_task(copy(far_reader, writer, lambda size: bandwidth.take(host, size)))
    except (OSError, asyncio.IncompleteReadError) as e:  # the client breaks off, or the registry cannot be reached
        print(f"proxy: {e}", file=sys.stderr)
    finally:
        writer.close()


async def copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, admit: Callable[[int], Awaitable[None]]
) -> None:
    """Copies all that comes, once so many bytes are admitted. A connection that breaks ends the copy."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            await admit(len(data))
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.contextmanager
def proxy(bandwidth: Bandwidth) -> Iterator[int]:
    """Serves the proxy in a thread, for as long as the block runs; gives its port."""
    [port] = free_ports(1)
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        await asyncio.start_server(lambda r, w: tunnel(bandwidth, r, w), "127.0.0.1", port)

    loop.run_until_complete(serve())
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def first_counts(lines: Iterator[str]) -> str:
    """The first line that tells of something counted; the others are printed with the seconds they came after. Raises
    SystemExit where none comes."""
    begun = time.monotonic()
    for line in lines:
        print(f"{time.monotonic() - begun:6.1f} {line}", end="", file=sys.stderr)
        if COUNTED.search(line):
            return line
    raise SystemExit("`make run` ended before it counted anything")


def run(command: Sequence[str], folder: Path, environ: dict[str, str]) -> float:
    """Seconds from the start of the command to the first counts. The command is ended as Ctrl-C does."""
    begun = time.monotonic()
    process = subprocess.Popen(
        command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        first_counts(iter(process.stdout))
        return time.monotonic() - begun
    finally:
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes-per-second", type=float, default=5.0)
    args = parser.parse_args()
    bandwidth = Bandwidth(args.megabytes_per_second * 1e6)
    base = free_ports(1)[0]
    with TemporaryDirectory(prefix="weir-first-run-") as name, proxy(bandwidth) as port:
        folder = Path(name)
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "weir")], check=True)
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("WEIR_", "VIRTUAL_ENV"))}
        environ["PATH"] = ":".join(p for p in environ["PATH"].split(":") if not (Path(p) / "uv").exists())
        caches = {"HOME": "home", "XDG_CACHE_HOME": "cache", "UV_CACHE_DIR": "uv", "PIP_CACHE_DIR": "pip"}
        environ |= {variable: str(folder / place) for variable, place in caches.items()}
        (folder / "home").mkdir()
        address = f"http://127.0.0.1:{port}"
        environ |= {"HTTPS_PROXY": address, "https_proxy": address, "NO_PROXY": "127.0.0.1,localhost"}
        environ |= {"WEIR_PORT_BASE": str(base // 100 * 100)}
        seconds = run(["make", "run"], folder / "weir", environ)
    for host, size in bandwidth.passed.most_common():
        print(f"{size / 1e6:8.1f} MB from {host}", file=sys.stderr)
    figures = {"seconds": round(seconds, 1), "megabytes": round(bandwidth.passed.total() / 1e6, 1)}
    print(json.dumps({"megabytes_per_second": args.megabytes_per_second} | figures))


if __name__ == "__main__":
    main()
