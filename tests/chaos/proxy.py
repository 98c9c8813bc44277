"""A TCP proxy that is slow: what comes back through it comes `latency` seconds later, however much it is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: What is read at once, and how many of these may be on their way back.
PIECE = 1 << 16
ON_THE_WAY = 256


@contextmanager
def slow_proxy(port: int, target: int, latency: float) -> Iterator[None]:
    """Listens on 127.0.0.1:`port` for 127.0.0.1:`target`, in a thread of its own, while the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="slow proxy", daemon=True)
    thread.start()
    proxy = _Proxy(target, latency)
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(proxy.accept, "127.0.0.1", port), loop).result(5)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(proxy.close(server), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


class _Proxy:
    def __init__(self, target: int, latency: float) -> None:
        self._target, self._latency = target, latency
        self._connections: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        own = asyncio.current_task()
        assert own is not None
        self._connections.add(own)
        ends = [writer]
        try:
            # The broker is away at times: then its clients are refused as it would refuse them.
            back, there = await asyncio.open_connection("127.0.0.1", self._target)
            ends.append(there)
            ways = [asyncio.ensure_future(_copy(reader, there)), asyncio.ensure_future(self._late(back, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in ends:
                end.close()
            self._connections.discard(own)

    async def _late(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(ON_THE_WAY)

        async def read() -> None:
            while piece := await reader.read(PIECE):
                await pieces.put((loop.time() + self._latency, piece))
            await pieces.put((loop.time() + self._latency, b""))

        reading = asyncio.ensure_future(read())
        try:
            while True:
                due, piece = await pieces.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not piece:
                    return
                writer.write(piece)
                await writer.drain()
        finally:
            reading.cancel()
            with suppress(OSError, asyncio.CancelledError):
                await reading

    async def close(self, server: asyncio.Server) -> None:
        """Ends the listening, and every connection."""
        server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(PIECE):
        writer.write(piece)
        await writer.drain()
