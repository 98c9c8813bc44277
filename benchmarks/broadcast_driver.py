"""Many subscribers in one light process: raw sockets and epoll. Run by benchmarks/broadcast.py.

    python -m benchmarks.broadcast_driver --url ws://127.0.0.1:8081/websocket --subscribers 5000 --until 1000

Messages begin with their number and the time that they were due at, as `stamp` makes them. Prints `ready` once all are
connected, then when told (a line on standard input), or when every subscriber has the message before number `until`, or
when nothing has come for `--patience` seconds, one line of JSON: what was lost, twice or out of order, and the
latencies. With `--resume` a subscriber that is cut off connects again with the position that it had.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import select
import socket
import time
from urllib.parse import urlsplit

import msgspec

from weir.infra.connections.open_files import RESERVE, available

HEAD = 34
_READ = 256 << 10


def stamp(number: int, size: int, due_ns: int) -> bytes:
    """A message of `size` bytes: its number, when it is due, and something to fill it."""
    return (b"%012d %020d " % (number, due_ns)).ljust(size, b".")


class Envelope(msgspec.Struct):
    position: str
    data: str


_decode = msgspec.json.Decoder(Envelope).decode


class Subscriber:
    """One connection, and what it has received: `next` is the number that has to come now."""

    __slots__ = ("first", "lost", "next", "position", "received", "rest", "socket", "twice")

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.rest = b""
        self.first = self.next = -1
        self.position = ""
        self.received = self.lost = self.twice = 0


class Driver:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        self._epoll = select.epoll()
        self._by_fd: dict[int, Subscriber] = {}
        self._buffer = bytearray(_READ)
        self.latencies = array.array("q")
        self.cut_off: list[float] = []
        self.back: list[float] = []
        self.not_recovered = 0
        self.silent_cut: list[float] = []
        self._mute: dict[int, socket.socket] = {}
        self.latest = time.monotonic()

    def connect(self, subscriber: Subscriber) -> None:
        """One handshake; what comes behind it is kept. Raises OSError."""
        target = self._target
        if subscriber.position:
            target += f"{'&' if '?' in target else '?'}after={subscriber.position}"
        connected = socket.create_connection(self._address, timeout=10)
        connected.sendall(
            f"GET {target} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            data = connected.recv(4096)
            if not data:
                raise ConnectionError("cut off in the handshake")
            head += data
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(head.decode(errors="replace"))
        connected.setblocking(False)
        subscriber.socket = connected
        subscriber.rest = b""
        self._take(subscriber, head.partition(b"\r\n\r\n")[2])
        self._by_fd[connected.fileno()] = subscriber
        self._epoll.register(connected, select.EPOLLIN)

    def mute(self) -> None:
        """A subscriber that never reads: only its end is looked for."""
        subscriber = Subscriber()
        self.connect(subscriber)
        assert subscriber.socket is not None
        fd = subscriber.socket.fileno()
        del self._by_fd[fd]
        self._epoll.modify(fd, select.EPOLLRDHUP | select.EPOLLHUP)
        self._mute[fd] = subscriber.socket

    def poll(self, timeout: float) -> list[Subscriber]:
        """Reads what is there; gives those that were cut off."""
        cut = []
        for fd, _ in self._epoll.poll(timeout):
            if fd in self._mute:
                self.silent_cut.append(time.monotonic())
                self._epoll.unregister(fd)
                self._mute.pop(fd).close()
                continue
            subscriber = self._by_fd[fd]
            assert subscriber.socket is not None
            try:
                size = subscriber.socket.recv_into(self._buffer)
            except BlockingIOError:
                continue
            except OSError:
                size = 0
            if not size or not self._take(subscriber, subscriber.rest + self._buffer[:size]):
                self._epoll.unregister(fd)
                del self._by_fd[fd]
                subscriber.socket.close()
                subscriber.socket = None
                cut.append(subscriber)
        return cut

    def _take(self, subscriber: Subscriber, data: bytes) -> bool:
        """The whole frames in `data`; False where one closes the connection."""
        at, end, now = 0, len(data), time.time_ns()
        while end - at >= 2:
            opcode, size, body = data[at] & 0x0F, data[at + 1], at + 2
            if size == 126:
                size, body = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, body = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if body + size > end:
                break
            at = body + size
            if opcode == 1:
                self._message(subscriber, data[body:at], now)
            elif opcode == 9:
                assert subscriber.socket is not None
                subscriber.socket.send(bytes((0x8A, 0x80, 0, 0, 0, 0)))
            elif opcode == 8:
                return False
        subscriber.rest = bytes(data[at:])
        return True

    def _message(self, subscriber: Subscriber, message: bytes, now: int) -> None:
        if message.startswith(b"{"):
            if b'"hello"' in message[:20]:
                hello = json.loads(message)
                subscriber.position = subscriber.position or hello["position"]
                self.not_recovered += not hello["recovered"]
                return
            enveloped = _decode(message)
            subscriber.position, head = enveloped.position, enveloped.data[:HEAD]
            number, sent = int(head[:12]), int(head[13:33])
        else:
            number, sent = int(message[:12]), int(message[13:33])
        if subscriber.next < 0:
            subscriber.first = subscriber.next = number
        if number >= subscriber.next:
            subscriber.lost += number - subscriber.next
            subscriber.next = number + 1
            subscriber.received += 1
            self.latencies.append(now - sent)
            self.latest = time.monotonic()
        else:
            subscriber.twice += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--subscribers", type=int, required=True)
    parser.add_argument("--never-read", type=int, default=0)
    parser.add_argument("--until", type=int, default=1 << 60)
    parser.add_argument("--patience", type=float, default=20.0)
    parser.add_argument("--resume", action="store_true")
    a = parser.parse_args()
    available(a.subscribers + a.never_read + RESERVE)
    driver = Driver(a.url)
    subscribers = [Subscriber() for _ in range(a.subscribers)]
    for subscriber in subscribers:
        driver.connect(subscriber)
    for _ in range(a.never_read):
        driver.mute()
    muted = time.monotonic()
    print("ready", flush=True)
    waiting: list[Subscriber] = []
    os.set_blocking(0, False)
    driver.latest = time.monotonic()
    told, again = False, 0.0
    looked = 0.0
    while not told and time.monotonic() - driver.latest < a.patience:
        now = time.monotonic()
        cut = driver.poll(0.05)
        if a.resume:
            waiting += cut
            driver.cut_off += [now] * len(cut)
        if waiting and now > again:
            waiting = _reconnect(driver, waiting)
            again = now + 0.1
        if now - looked > 0.2:
            looked = now
            told = _told() or all(s.next >= a.until for s in subscribers)
    latencies = sorted(driver.latencies)
    first, last = min(s.first for s in subscribers), max(s.next for s in subscribers)
    print(
        json.dumps(
            {
                "subscribers": len(subscribers),
                "received": sum(s.received for s in subscribers),
                "lost": sum(s.lost + (last - s.next if s.next >= 0 else last) + s.first - first for s in subscribers),
                "twice": sum(s.twice for s in subscribers),
                "cut_off": sum(s.socket is None for s in subscribers),
                "not_recovered": driver.not_recovered,
                **{
                    name: round(latencies[min(len(latencies) - 1, int(len(latencies) * share))] / 1e6, 2)
                    for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("max", 1.0))
                    if latencies
                },
                "silent_gone": len(driver.silent_cut),
                "silent_gone_after_s": round(max(driver.silent_cut) - muted, 1) if driver.silent_cut else None,
                "back_after_s": round(max(driver.back) - min(driver.cut_off), 1) if driver.back else None,
            }
        ),
        flush=True,
    )


def _reconnect(driver: Driver, waiting: list[Subscriber]) -> list[Subscriber]:
    """Connects as many as it can; those that could not. Stops at the first refusal: the others would get it, too."""
    for at, subscriber in enumerate(waiting):
        try:
            driver.connect(subscriber)
        except OSError:
            return waiting[at:]
        driver.back.append(time.monotonic())
    return []


def _told() -> bool:
    try:
        return os.read(0, 100) != b""
    except BlockingIOError:
        return False


if __name__ == "__main__":
    main()
