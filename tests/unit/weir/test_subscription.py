"""The state of a subscriber: every message once, in order, however connections break and wherever they start again."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.clients.subscription import NotABroadcasterError, Subscription
from weir.schemas.broadcast import Hello, envelope, format_position


def hello(position: str, recovered: bool = True) -> bytes:
    return msgspec.json.encode(Hello(position, recovered))


def test_at_first_it_asks_for_what_it_was_told() -> None:
    assert Subscription().query() == {"envelope": "1"}
    assert Subscription("news", last=3).query() == {"envelope": "1", "channel": "news", "last": "3"}
    assert Subscription(after="1-5").query() == {"envelope": "1", "after": "1-5"}


def test_later_it_goes_on_from_where_it_is() -> None:
    subscription = Subscription("news", last=3)
    assert subscription.hello(hello("1-5"))
    assert subscription.query() == {"envelope": "1", "channel": "news", "after": "1-5"}
    subscription.message(envelope("1-6", "news", b"hi", binary=False))
    assert subscription.query()["after"] == subscription.position == "1-6"


def test_a_message_is_what_was_sent_byte_for_byte() -> None:
    subscription = Subscription()
    subscription.hello(hello("0-0"))
    for number, (data, binary) in enumerate([("\u00e4\0\n".encode(), False), (b"", False), (b"\xff\0", True)], 1):
        text = envelope(f"0-{number}", None, data, binary)
        assert subscription.message(text) == (data, text)


def test_what_is_gone_is_said_and_offsets_may_then_be_smaller() -> None:
    subscription = Subscription(after="0-100")
    assert not subscription.hello(hello("0-3", recovered=False))
    assert subscription.position == "0-3"
    assert subscription.message(envelope("0-4", None, b"new", binary=False)) is not None


@pytest.mark.parametrize(
    "text",
    [b"", b"hello", b"{}", b'{"type":"hello"}', b'{"type":"hello","position":"x","recovered":true}', b"\xff",
     b'{"position":"0-1","channel":null,"data":"d"}'],
)  # fmt: skip
def test_a_first_message_that_is_no_hello_is_refused(text: bytes) -> None:
    with pytest.raises(NotABroadcasterError):
        Subscription().hello(text)


@pytest.mark.parametrize(
    "text",
    [b"", b"hello", b"{}", b'{"position":"0-1","channel":null}', b'{"position":"x","channel":null,"data":""}',
     b'{"position":"0-1","channel":null,"base64":"?"}'],
)  # fmt: skip
def test_a_later_message_that_is_no_envelope_is_refused(text: bytes) -> None:
    subscription = Subscription()
    subscription.hello(hello("0-0"))
    with pytest.raises(NotABroadcasterError):
        subscription.message(text)


class Broadcaster:
    """Hands out a log of several partitions; each connection in an interleaving of its own."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths

    def deliver(self, start: dict[int, int], order: st.DataObject, most: int) -> list[tuple[int, int, bytes]]:
        """Up to `most` messages from there on: partition, offset and envelope."""
        at, found = dict(start), []
        while len(found) < most and (left := [p for p, end in enumerate(self.lengths) if at[p] < end]):
            partition = order.draw(st.sampled_from(left))
            at[partition] += 1
            data = f"{partition}@{at[partition] - 1}".encode()
            found.append((partition, at[partition] - 1, envelope(format_position(at), None, data, binary=False)))
        return found


@given(st.data(), st.lists(st.integers(0, 8), min_size=1, max_size=3), st.integers(1, 6))
def test_every_message_is_had_once_and_in_order(data: st.DataObject, lengths: list[int], connections: int) -> None:
    """Each connection but the last breaks anywhere; the next may start some messages before where it was asked to."""
    broadcaster = Broadcaster(lengths)
    subscription = Subscription(after=format_position(dict.fromkeys(range(len(lengths)), 0)))
    had: list[bytes] = []
    for connection in range(connections + 1):
        asked = dict(tuple(map(int, pair.split("-"))) for pair in subscription.query()["after"].split("."))
        start = {p: offset - data.draw(st.integers(0, min(offset, 2))) for p, offset in asked.items()}
        assert subscription.hello(hello(format_position(start)))
        most = data.draw(st.integers(0, 6)) if connection < connections else 100
        for _, _, text in broadcaster.deliver(start, data, most):
            message = subscription.message(text)
            if message is not None:
                had.append(message.data)
    for partition, length in enumerate(lengths):
        of_partition = [text for text in had if text.startswith(f"{partition}@".encode())]
        assert of_partition == [f"{partition}@{offset}".encode() for offset in range(length)]
