"""The seam between replay and live messages, by a model: each subscriber gets exactly the messages due, once.

The model plays what the broadcaster does with the same pure parts: batches go to those who are live and then into
memory; who is behind is served from memory, or where that does not reach back far enough from the topic itself, in
steps of any size, while more comes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from support.websocket.websocket_frames import unframed
from weir.consumers.broadcast.fan_out import FanOut
from weir.consumers.broadcast.replay_buffer import Entry, NextOffsets, ReplayBuffer, SubscriptionFilter, wanted
from weir.consumers.broadcast.source import by_time, suffixes
from weir.schemas.broadcast import parse_position, partition_of

PARTITIONS = 3
CHANNELS = (None, "a", "b", "weather", "news")


@dataclass(eq=False)
class Subscriber:
    filter: SubscriptionFilter
    start: dict[int, int]
    position: dict[int, int]
    live: bool = False
    got: bytes = b""

    def texts(self) -> list[str]:
        return [data.decode() for data in unframed(self.got)]


@dataclass
class Model:
    memory_limit: int
    topic: list[Entry] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), 0))
    subscribers: list[Subscriber] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.memory = ReplayBuffer(self.ends, self.memory_limit)
        self.live: FanOut[Subscriber] = FanOut(PARTITIONS)

    def batch(self, messages: list[tuple[str | None, int]]) -> None:
        """These channels' messages come, each behind a hole of so many offsets."""
        entries = []
        for channel, hole in messages:
            partition = partition_of(channel, PARTITIONS)
            offset = self.ends[partition] + hole
            self.ends[partition] = offset + 1
            entries.append(Entry(partition, offset, channel, f"{partition}-{offset}".encode(), False, 0))
        payloads = self.live.payloads(entries, self.memory.next)
        self.memory.append(entries)
        self.topic += entries
        for subscribers, payload in payloads:
            for subscriber in subscribers:
                subscriber.got += payload

    def join(self, filter_: SubscriptionFilter, back: int) -> None:
        """Somebody joins who has read all but the last `back` offsets of each partition."""
        partitions = range(PARTITIONS) if filter_.channel is None else [partition_of(filter_.channel, PARTITIONS)]
        start = {p: max(0, self.memory.next[p] - back) for p in partitions}
        self.subscribers.append(Subscriber(filter_, start, dict(start)))

    def step(self, subscriber: Subscriber, most: int) -> None:
        """One step nearer to the end for somebody who is behind."""
        if subscriber.live:
            return
        if self.memory.covers(subscriber.position):
            entries = self.memory.after(subscriber.position, subscriber.filter.channel)
            payload, subscriber.position, done = wanted(entries, subscriber.filter, subscriber.position, most)
            subscriber.got += payload
            if done:
                subscriber.live = True
                self.live.join(subscriber, subscriber.filter)
        else:
            read = [e for e in self.topic if e.offset >= subscriber.position.get(e.partition, 1 << 60)][: most // 8 + 1]
            payload, subscriber.position, _ = wanted(read, subscriber.filter, subscriber.position, 1 << 60)
            subscriber.got += payload

    def due(self, subscriber: Subscriber) -> list[Entry]:
        return [
            entry
            for entry in self.topic
            if entry.offset >= subscriber.start.get(entry.partition, 1 << 60)
            and subscriber.filter.channel in (None, entry.channel)
        ]


MESSAGES = st.lists(st.tuples(st.sampled_from(CHANNELS), st.sampled_from((0, 0, 0, 1, 5))), max_size=6)
WISHES = st.builds(SubscriptionFilter, st.sampled_from(CHANNELS), st.booleans())
STEPS = st.one_of(
    st.tuples(st.just("batch"), MESSAGES),
    st.tuples(st.just("join"), WISHES, st.sampled_from((0, 1, 3, 30, 1000))),
    st.tuples(st.just("step"), st.integers(0, 20), st.sampled_from((1, 20, 100, 1 << 20))),
    st.tuples(st.just("trim"), st.integers(0, PARTITIONS - 1), st.integers(0, 4)),
)


@given(st.sampled_from((0, 600, 3_000, 1 << 20)), st.lists(STEPS, max_size=60))
def test_each_gets_exactly_what_is_due_in_order_and_once(limit: int, steps: list[tuple]) -> None:  # type: ignore[type-arg]
    model = Model(limit)
    for kind, *rest in steps:
        if kind == "batch":
            model.batch(*rest)
        elif kind == "join":
            model.join(*rest)
        elif kind == "trim":  # memory forgets; the topic of this model keeps it, so that nothing is lost
            partition, back = rest
            model.memory.trim({partition: model.memory.next[partition] - back})
        elif model.subscribers:
            model.step(model.subscribers[rest[0] % len(model.subscribers)], rest[1])
    for subscriber in model.subscribers:
        for _ in range(2 * len(model.topic) + 2):
            model.step(subscriber, 1)
        assert subscriber.live
    model.batch([(channel, 0) for channel in CHANNELS])
    for subscriber in model.subscribers:
        texts = subscriber.texts()
        if subscriber.filter.envelope:
            envelopes = [json.loads(text) for text in texts]
            _check_positions(model, subscriber, envelopes)
            texts = [envelope["data"] for envelope in envelopes]
        due = model.due(subscriber)
        assert sorted(texts) == sorted(entry.data.decode() for entry in due)
        for partition in range(PARTITIONS):
            mine = [text for text in texts if text.startswith(f"{partition}-")]
            assert mine == [entry.data.decode() for entry in due if entry.partition == partition]


def _check_positions(model: Model, subscriber: Subscriber, envelopes: list[dict[str, str]]) -> None:
    """Whoever resumes with any of the positions gets exactly the rest."""
    due = {entry.data.decode() for entry in model.due(subscriber)}
    had = set()
    for envelope in envelopes:
        had.add(envelope["data"])
        position = parse_position(envelope["position"])
        assert position.keys() == subscriber.start.keys()
        rest = {
            entry.data.decode()
            for entry in model.topic
            if entry.offset >= position.get(entry.partition, 1 << 60)
            and subscriber.filter.channel in (None, entry.channel)
        }
        assert rest == due - had


@given(
    st.lists(MESSAGES, max_size=10), st.integers(0, 30), st.sampled_from(CHANNELS), st.sampled_from((2_000, 1 << 20))
)
def test_the_last_ones_are_the_latest_in_memory(
    batches: list[list[tuple[str | None, int]]], count: int, channel: str | None, limit: int
) -> None:
    model = Model(limit)
    for batch in batches:
        model.batch(batch)
    partitions = range(PARTITIONS) if channel is None else [partition_of(channel, PARTITIONS)]
    start, found = model.memory.latest(channel, partitions, count)
    held = [e for e in model.topic[len(model.topic) - len(model.memory) :] if channel in (None, e.channel)]
    payload, _, done = wanted(model.memory.after(start, channel), SubscriptionFilter(channel, False), start, 1 << 20)
    assert done
    assert [data.decode() for data in unframed(payload)] == [e.data.decode() for e in held[len(held) - found :]]
    assert found == min(count, len(held))


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50), st.integers(0, 9)), unique_by=lambda t: t[:2]),
    st.integers(0, 60),
)
def test_the_last_ones_of_the_topic_are_the_ends_of_its_partitions(
    found: list[tuple[int, int, int]], count: int
) -> None:
    ends = dict.fromkeys(range(PARTITIONS), 51)
    start = suffixes(found, count, ends)
    assert sum(offset >= start[partition] for partition, offset, _ in found) == min(count, len(found))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9))))
def test_what_is_read_partition_after_partition_comes_as_in_time(records: list[tuple[int, int]]) -> None:
    read = [Entry(p, offset, None, b"", False, time) for offset, (p, time) in enumerate(records)]
    read.sort(key=lambda entry: entry.partition)
    found = by_time(read)
    for partition in range(3):
        mine = [entry for entry in found if entry.partition == partition]
        assert mine == [entry for entry in read if entry.partition == partition]
        if [entry.timestamp for entry in mine] != sorted(entry.timestamp for entry in mine):
            return  # a clock that went back: the partition's own order is all that there is
    assert [entry.timestamp for entry in found] == sorted(time for _, time in records)


def test_memory_forgets_the_oldest_and_says_from_where_on_it_has_everything() -> None:
    memory = ReplayBuffer({0: 0, 1: 7}, 10 * 260)
    for offset in range(100):
        memory.append([Entry(0, offset, None, b"0123456789", False, 0)])
    assert (len(memory), memory.first, memory.next) == (10, {0: 90, 1: 7}, {0: 100, 1: 7})
    assert memory.covers({0: 90})
    assert not memory.covers({0: 89})
    memory.restart(0, 200)
    assert (len(memory), memory.first, memory.next) == (0, {0: 200, 1: 7}, {0: 200, 1: 7})
    assert memory.is_ahead({1: 8})


class Looked(Entry):
    """An entry that counts how often anybody looks at one."""

    looks = 0

    def __getattribute__(self, name: str) -> object:
        Looked.looks += 1
        return super().__getattribute__(name)


def test_who_wants_a_rare_channel_costs_as_little_as_it_gets() -> None:
    partition = partition_of("rare", PARTITIONS)
    memory = ReplayBuffer(dict.fromkeys(range(PARTITIONS), 0), 1 << 30)
    for number in range(10_000):
        memory.append([Looked(partition, number, "rare" if number % 1_000 == 0 else "often", b"x", False, 0)])
    Looked.looks = 0
    start, found = memory.latest("rare", [partition], 5)
    payload, _, done = wanted(memory.after(start, "rare"), SubscriptionFilter("rare", True), start, 1 << 20)
    assert (start, found, done, payload.count(b'"rare"')) == ({partition: 5_000}, 5, True, 5)
    assert Looked.looks < 100
    assert memory.latest("rare", [partition], 11) == ({partition: 0}, 10)
    assert memory.latest("never", [partition], 5) == ({partition: 10_000}, 0)
    assert Looked.looks < 200


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from((1, 1, 1, 40))), max_size=200),
    st.integers(0, 60),
    st.sampled_from((600, 3_000, 1 << 20)),
)
def test_a_channels_entries_are_found_whatever_was_forgotten_before(
    messages: list[tuple[str, int]], back: int, limit: int
) -> None:
    memory, offset = ReplayBuffer({0: 0}, limit), 0
    for channel, many in messages:
        for _ in range(many):
            memory.append([Entry(0, offset, channel, b"%d" % offset, False, 0)])
            offset += 1
    start = {0: max(memory.first[0], offset - back)}
    for channel in "abc":
        held = list(memory.after({0: memory.first[0]}))
        assert len(held) == len(memory)
        assert list(memory.after(start, channel)) == [e for e in held if e.channel == channel and e.offset >= start[0]]
        assert memory.latest(channel, [0], back)[1] == min(back, sum(e.channel == channel for e in held))


def test_what_is_in_another_partition_than_its_channels_is_not_the_channels() -> None:
    live: FanOut[str] = FanOut(PARTITIONS)
    live.join("everything", SubscriptionFilter(None, False))
    live.join("a", SubscriptionFilter("a", False))
    astray = Entry((partition_of("a", PARTITIONS) + 1) % PARTITIONS, 0, "a", b"x", False, 0)
    assert [who for who, _ in live.payloads([astray], dict.fromkeys(range(PARTITIONS), 0))] == [["everything"]]
    live.leave("everything", SubscriptionFilter(None, False))
    assert live.payloads([astray], dict.fromkeys(range(PARTITIONS), 0)) == []
    assert len(live) == 1


def test_short_messages_come_in_portions_as_well() -> None:
    entries = [Entry(0, number, None, b"", False, 0) for number in range(10_000)]
    payload, position, done = wanted(entries, SubscriptionFilter(None, False), {0: 0}, 64_000)
    assert (len(list(unframed(payload))), position, done) == (1_000, {0: 1_000}, False)


def test_a_position_keeps_its_text() -> None:
    position = NextOffsets({1: 5, 0: 3})
    assert position.pass_by(Entry(1, 7, None, b"", False, 0)) == "0-3.1-8"
    assert position.offsets == {0: 3, 1: 8}
