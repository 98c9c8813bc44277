"""Bytes → messages (RFC 6455): the same however they are cut; what is wrong is said with the first byte of it."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.infra.websocket import frames
from weir.infra.websocket.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, unmask
from weir.infra.websocket.messages import Assembler, MessageEvent

LIMIT = 4096
MASK = b"\x01\x80\xff\x7e"


def sent(opcode: int, data: bytes = b"", final: bool = True, mask: bytes | None = MASK, reserved: int = 0) -> bytes:
    """A frame as a client sends it; `mask` None: without one."""
    frame = bytearray(frames.frame(opcode, data))
    head = len(frame) - len(data)
    frame[0] = (0x80 if final else 0) | reserved | opcode
    if mask is None:
        return bytes(frame)
    frame[1] |= 0x80
    return bytes(frame[:head]) + mask + unmask(data, mask)


def fed(*reads: bytes, limit: int = LIMIT) -> tuple[list[MessageEvent], int | None]:
    """The events of these reads, and the close code of what is wrong."""
    assembler = Assembler(limit)
    events = [event for read in reads for event in assembler.feed(read)]
    return events, assembler.error and assembler.error.code


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    places = sorted({place % (len(stream) + 1) for place in at} | {0, len(stream)})
    return [stream[a:b] for a, b in itertools.pairwise(places)]


TEXTS = st.text(max_size=300).map(lambda t: t.encode(errors="replace"))
MASKS = st.binary(min_size=4, max_size=4)
CONTROLS = st.tuples(st.sampled_from((PING, PONG)), st.binary(max_size=125))


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[MessageEvent]]:
    """Draws a client's bytes, fragmented and with control frames in between, and the events that must come of them."""
    stream, events = b"", []
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from((TEXT, BINARY)))
        data = draw(TEXTS if kind == TEXT else st.binary(max_size=700))
        parts = cut(data, draw(st.lists(st.integers(0, 1000), max_size=3))) or [b""]
        for number, part in enumerate(parts):
            if draw(st.booleans()):
                opcode, payload = draw(CONTROLS)
                stream += sent(opcode, payload, mask=draw(MASKS))
                events.append(MessageEvent(opcode, payload))
            last = number == len(parts) - 1
            stream += sent(CONTINUATION if number else kind, part, final=last, mask=draw(MASKS))
        events.append(MessageEvent(kind, data))
    return stream, events


@given(conversations(), st.lists(st.integers(0, 1 << 16), max_size=12))
def test_any_cut_of_the_bytes_gives_the_same_messages(
    conversation: tuple[bytes, list[MessageEvent]], cuts: list[int]
) -> None:
    stream, events = conversation
    assert fed(stream) == (events, None)
    assert fed(*cut(stream, cuts)) == (events, None)


@given(conversations())
def test_byte_by_byte_it_is_the_same(conversation: tuple[bytes, list[MessageEvent]]) -> None:
    stream, events = conversation
    assert fed(*(stream[at : at + 1] for at in range(len(stream)))) == (events, None)


@given(conversations(), st.binary(max_size=400), st.lists(st.integers(0, 1 << 16), max_size=12))
def test_bytes_of_any_kind_are_cut_or_not_the_same_to_it(
    conversation: tuple[bytes, list[MessageEvent]], noise: bytes, cuts: list[int]
) -> None:
    stream = conversation[0] + noise
    assert fed(*cut(stream, cuts)) == fed(stream)


@given(st.binary(min_size=1, max_size=2000), MASKS)
def test_a_mask_is_taken_off(data: bytes, mask: bytes) -> None:
    assert unmask(data, mask) == bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_every_form_of_a_length(size: int) -> None:
    data = b"x" * size
    assert fed(sent(BINARY, data), limit=1 << 20) == ([MessageEvent(BINARY, data)], None)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_that_is_too_long_is_refused_with_its_header(opcode: int) -> None:
    whole = sent(opcode, b"x" * (LIMIT + 1))
    assert fed(sent(opcode, b"x" * LIMIT))[1] is None
    assert fed(whole)[1] == 1009
    assert fed(whole[:4])[1] == 1009  # not a byte of it is kept
    assert fed(sent(opcode, b"x" * LIMIT, final=False), sent(CONTINUATION, b"x"))[1] == 1009


@pytest.mark.parametrize(
    "wrong",
    [
        sent(TEXT, b"x", mask=None),
        *(sent(TEXT, b"x", reserved=bit) for bit in (0x10, 0x20, 0x40)),
        *(sent(opcode, b"") for opcode in (3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF)),
        sent(PING, b"x", final=False),
        sent(CLOSE, b"", final=False),
        sent(PING, b"x" * 126),
        sent(CONTINUATION, b"x"),
        sent(TEXT, b"x", final=False) + sent(TEXT, b"y"),
        sent(TEXT, b"x", final=False) + sent(BINARY, b"y", final=False),
        bytes((0x82, 0x80 | 126, 0, 125)) + MASK,
        bytes((0x82, 0x80 | 127)) + (65535).to_bytes(8, "big") + MASK,
        bytes((0x82, 0x80 | 127)) + (1 << 63).to_bytes(8, "big") + MASK,
        sent(CLOSE, b"\x03"),
        *(sent(CLOSE, code.to_bytes(2, "big")) for code in (0, 999, 1004, 1005, 1006, 1015, 1100, 2999, 5000, 65535)),
    ],
)
def test_what_the_protocol_forbids_ends_it_with_1002(wrong: bytes) -> None:
    before = sent(BINARY, b"before")
    assert fed(before + wrong + sent(BINARY, b"behind")) == ([MessageEvent(BINARY, b"before")], 1002)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4999])
def test_a_close_that_is_allowed(code: int) -> None:
    assert fed(sent(CLOSE, code.to_bytes(2, "big") + "ö".encode())) == ([MessageEvent(CLOSE, "ö".encode(), code)], None)
    assert fed(sent(CLOSE)) == ([MessageEvent(CLOSE, b"", 1005)], None)


@pytest.mark.parametrize("text", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf5", b"\x80"])
def test_a_text_that_is_not_utf_8_ends_it_with_1007(text: bytes) -> None:
    assert fed(sent(TEXT, b"ok" + text + b"more"))[1] == 1007
    assert fed(sent(TEXT, b"ok", final=False), sent(CONTINUATION, text + b"more"))[1] == 1007
    assert fed(sent(CLOSE, b"\x03\xe8" + text))[1] == 1007
    assert fed(sent(BINARY, text))[1] is None


def test_a_text_that_is_wrong_is_refused_in_the_middle_of_its_frame() -> None:
    whole = sent(TEXT, "κόσμε".encode() + b"\xf4\x90\x80\x80" + b"x" * 100)
    wrong = len(whole) - 102
    assert fed(whole[: wrong - 1])[1] is None
    assert fed(whole[:wrong])[1] == 1007


def test_a_text_that_ends_within_a_character_is_refused_at_its_end() -> None:
    half = "€".encode()[:2]
    assert fed(sent(TEXT, half))[1] == 1007
    assert fed(sent(TEXT, half, final=False))[1] is None
    assert fed(sent(TEXT, half, final=False), sent(CONTINUATION))[1] == 1007
    assert fed(sent(TEXT, half, final=False), sent(CONTINUATION, "€".encode()[2:])) == (
        [MessageEvent(TEXT, "€".encode())],
        None,
    )


def test_many_small_fragments_take_no_more_memory_than_their_bytes() -> None:
    assembler = Assembler(1 << 18)
    assert assembler.feed(sent(BINARY, b"ab", final=False)) == []
    fragments = sent(CONTINUATION, b"ab", final=False) * 1_000
    tracemalloc.start()
    try:
        for _ in range(20):
            assert assembler.feed(fragments) == []
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 3 * 40_000
    assert assembler.feed(sent(CONTINUATION)) == [MessageEvent(BINARY, b"ab" * 20_001)]


def test_after_something_wrong_nothing_counts() -> None:
    assembler = Assembler(LIMIT)
    assembler.feed(sent(3))
    assert assembler.feed(sent(TEXT, b"x")) == []


def test_a_close_frames_reason_is_cut_between_characters() -> None:
    frame = frames.close(1000, "é" * 100)
    assert frame[1] == 2 + 122
    assert frame[4:].decode() == "é" * 61
