"""Bytes as a client sends them → messages (RFC 6455, sections 5, 7.4 and 8.1). Pure: no I/O, no clock.

However the bytes are cut into reads, the same messages come out; and what is wrong is said with the first byte that
shows it, in the middle of a frame too, so that nobody can make us keep what we will refuse.
"""

from __future__ import annotations

import codecs
from typing import NamedTuple

from weir.infra.websocket.frames import BINARY, CLOSE, CONTINUATION, MAX_CONTROL, PING, PONG, TEXT, unmask

PROTOCOL_ERROR, INVALID_TEXT, TOO_BIG = 1002, 1007, 1009
#: What stands for "no code" in an API, and never on the wire (7.4.1).
NO_CODE = 1005

_utf8 = codecs.getincrementaldecoder("utf-8")
_KNOWN = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))


class MessageEvent(NamedTuple):
    """Received message: `kind` is TEXT, BINARY, PING, PONG or CLOSE; a CLOSE has a `code`, and its reason as `data`."""

    kind: int
    data: bytes
    code: int = 0


class ProtocolError(Exception):
    """The client broke the protocol, or a limit: the connection ends with this close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Assembler:
    """Takes bytes in; gives whole messages. `limit`: the most bytes of one message."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""
        #: Of the frame whose payload is incomplete.
        self._opcode = 0
        self._final = False
        self._mask = b""
        self._missing = 0
        self._control = bytearray()
        #: Of the message that is incomplete: 0 where there is none.
        self._kind = 0
        self._body = bytearray()  # and no list: a thousand fragments of a byte each are not to take more than that
        self._decoder: codecs.IncrementalDecoder | None = None
        #: Frames that were complete and completed no message. Whoever asks may set it back.
        self.fragments = 0
        #: Set once: nothing that comes later counts.
        self.error: ProtocolError | None = None

    def feed(self, data: bytes) -> list[MessageEvent]:
        """The events that these bytes complete. What is wrong is in `error` then; what came before it still counts."""
        events: list[MessageEvent] = []
        if self.error is None:
            try:
                self._read(self._rest + data if self._rest else data, events)
            except ProtocolError as e:
                self.error = e
        return events

    def _read(self, data: bytes, events: list[MessageEvent]) -> None:
        at, end = 0, len(data)
        if self._missing:
            at = self._payload(data, 0, events)
        while at < end:
            # The common case first: a whole message in one frame, all of it here, and nothing begun before it.
            first = data[at]
            if end - at >= 6:
                second = data[at + 1]
                if (first == 0x81 or first == 0x82) and 0x80 <= second <= 0xFE and not self._kind:
                    size = second & 0x7F
                    body = at + 6
                    if size == 126:
                        size = data[at + 2] << 8 | data[at + 3]
                        body = at + 8
                    stop = body + size
                    if stop <= end and size <= self._limit and (size > 125 or body == at + 6):
                        message = unmask(data[body:stop], data[body - 4 : body])
                        if first == 0x81:
                            _check_text(message)
                        events.append(MessageEvent(first & 0x0F, message))
                        at = stop
                        continue
            head = self._header(data, at)
            if not head:
                break
            at = self._payload(data, at + head, events)
        self._rest = data[at:]

    def _header(self, data: bytes, at: int) -> int:
        """Reads the header at `at`; its length, or 0 where it is not all there."""
        first = data[at]
        opcode = first & 0x0F
        if first & 0x70:
            raise ProtocolError(PROTOCOL_ERROR, "a reserved bit is set, and no extension was agreed on")
        if opcode not in _KNOWN:
            raise ProtocolError(PROTOCOL_ERROR, f"opcode {opcode:#x} is reserved")
        control = opcode >= CLOSE
        if control and not first & 0x80:
            raise ProtocolError(PROTOCOL_ERROR, "a control frame is fragmented")
        if not control and (opcode == CONTINUATION) != bool(self._kind):
            wrong = "continues no message" if opcode == CONTINUATION else "starts a message before the last one ended"
            raise ProtocolError(PROTOCOL_ERROR, f"a frame {wrong}")
        if len(data) - at < 2:
            return 0
        second = data[at + 1]
        if not second & 0x80:
            raise ProtocolError(PROTOCOL_ERROR, "a client's frame is not masked")
        size = second & 0x7F
        if control and size > MAX_CONTROL:
            raise ProtocolError(PROTOCOL_ERROR, f"a control frame carries more than {MAX_CONTROL} bytes")
        wide = {126: 2, 127: 8}.get(size, 0)
        head = 2 + wide + 4
        if len(data) - at < 2 + wide:
            return 0
        if wide:
            size = int.from_bytes(data[at + 2 : at + 2 + wide], "big")
            if size >> 63 or size < (126 if wide == 2 else 1 << 16):
                raise ProtocolError(PROTOCOL_ERROR, "a length is not written in the shortest form")
        if not control and len(self._body) + size > self._limit:
            raise ProtocolError(TOO_BIG, f"a message has more than {self._limit} bytes")
        if len(data) - at < head:
            return 0
        self._opcode, self._final = opcode, bool(first & 0x80)
        self._mask = data[at + head - 4 : at + head]
        self._missing = size
        if not control and opcode != CONTINUATION:
            self._kind = opcode
            self._decoder = _utf8() if opcode == TEXT else None
        return head

    def _payload(self, data: bytes, at: int, events: list[MessageEvent]) -> int:
        """Takes what is there of the frame's payload, and ends the frame where that is all; up to where it read."""
        part = data[at : at + self._missing]
        size = len(part)
        self._missing -= size
        if part:
            part_unmasked = unmask(part, self._mask)
            turn = size & 3
            self._mask = self._mask[turn:] + self._mask[:turn]
            if self._opcode >= CLOSE:
                self._control += part_unmasked
            else:
                self._take(part_unmasked)
        if not self._missing:
            if self._opcode >= CLOSE:
                whole, self._control = bytes(self._control), bytearray()
                events.append(_close(whole) if self._opcode == CLOSE else MessageEvent(self._opcode, whole))
            elif self._final:
                self._end(events)
            else:
                self.fragments += 1
        return at + size

    def _take(self, part: bytes) -> None:
        self._body += part
        if self._decoder is not None:
            try:
                self._decoder.decode(part)
            except UnicodeDecodeError:
                raise ProtocolError(INVALID_TEXT, "a text message is not UTF-8") from None

    def _end(self, events: list[MessageEvent]) -> None:
        if self._decoder is not None:
            try:
                self._decoder.decode(b"", final=True)
            except UnicodeDecodeError:
                raise ProtocolError(INVALID_TEXT, "a text message ends within a character") from None
        events.append(MessageEvent(self._kind, bytes(self._body)))
        self._kind, self._body, self._decoder = 0, bytearray(), None


def _check_text(message: bytes) -> None:
    if not message.isascii():
        try:
            message.decode()
        except UnicodeDecodeError:
            raise ProtocolError(INVALID_TEXT, "a text message is not UTF-8") from None


def _close(payload: bytes) -> MessageEvent:
    """A close frame's event. Raises ProtocolError where its code may not be sent, or its reason is not UTF-8 (7.4)."""
    if not payload:
        return MessageEvent(CLOSE, b"", NO_CODE)
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not ((1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999):
        raise ProtocolError(PROTOCOL_ERROR, "a close frame has a code that may not be sent")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise ProtocolError(INVALID_TEXT, "a close frame's reason is not UTF-8") from None
    return MessageEvent(CLOSE, payload[2:], code)
