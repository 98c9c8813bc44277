"""Queue of what a connection has still to send, where the kernel did not take it at once."""

from __future__ import annotations

from collections import deque

#: Frames written with one call at most.
_AT_ONCE = 64


class SendQueue:
    """Frames that wait, the first of them perhaps sent in part. `size` is how many bytes wait.

    >>> queue = SendQueue()
    >>> queue.put(memoryview(b"abc")[1:])
    >>> queue.put(b"de")
    >>> queue.sent(3)
    >>> queue.size, [bytes(frame) for frame in queue.head()]
    (1, [b'e'])
    """

    __slots__ = ("_frames", "size")

    def __init__(self) -> None:
        self._frames: deque[bytes | memoryview] = deque()
        self.size = 0

    def put(self, frame: bytes | memoryview) -> None:
        """Puts a frame behind the others, and copies nothing. The rest of a frame that was begun is a memoryview."""
        self._frames.append(frame)
        self.size += len(frame)

    def head(self) -> list[bytes | memoryview]:
        """Returns the frames that are to be sent next, as many as one call writes."""
        return [self._frames[i] for i in range(min(len(self._frames), _AT_ONCE))]

    def sent(self, size: int) -> None:
        """Forgets that many bytes from the front."""
        self.size -= size
        waiting = self._frames
        while waiting and size >= len(waiting[0]):
            size -= len(waiting.popleft())
        if size:
            waiting[0] = memoryview(waiting[0])[size:]

    def drop(self) -> None:
        """Forgets all frames but the rest of one of which the peer has a part already."""
        if self._frames:
            first = self._frames[0]
            self._frames = deque((first,) if isinstance(first, memoryview) else ())
            self.size = sum(map(len, self._frames))
