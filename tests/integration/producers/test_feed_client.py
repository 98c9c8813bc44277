"""From a feed's socket onto the topics: every kind of message, bad ones, and Kafka going away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from confluent_kafka import Message, TopicPartition
from structlog.testing import capture_logs

from support.servers.feed_servers import Script, feed_status, scripted, status
from support.wait import PATIENCE_S, until_async
from weir.infra import config as configuration
from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.ports import free_ports
from weir.infra.runtime.clock import wall_clock
from weir.infra.servers.kafka import KafkaServer
from weir.infra.supervisor.processes import Process, end
from weir.producers.feed.client import MAX_DEAD_LETTER, FeedClient
from weir.producers.feed.connection import MAX_MESSAGE, FeedConnection
from weir.producers.simulators.feed.check import FeedCheck
from weir.producers.simulators.feed.recorded import Timed
from weir.producers.simulators.feed.server import FeedServer
from weir.schemas.dead_letters import Reason, from_headers


@pytest.fixture
def config(config: Config) -> Config:
    """With the topics, which exist before a feed is read."""
    kafka.ensure_topics(config)
    return config


def call(source: str = "a", destination: str = "b") -> str:
    return json.dumps({"source": source, "destination": destination})


def relate(parent: str, *children: str) -> str:
    return json.dumps([{"parent": parent, "child": child} for child in children])


def read(config: Config, topic: str, count: int, timeout: float = 20.0) -> list[Message]:
    """The first `count` records of a topic; fails where that many do not come, or more are there."""
    consumer = kafka.consumer(config, **{"auto.offset.reset": "earliest"})
    try:
        name = config.topic(topic)
        consumer.assign(
            [TopicPartition(name, p, 0) for p in consumer.list_topics(name, timeout=PATIENCE_S).topics[name].partitions]
        )
        found: list[Message] = []
        deadline = time.monotonic() + timeout
        while len(found) < count and time.monotonic() < deadline:
            found += consumer.consume(1000, 0.2)
        found += consumer.consume(1000, 0.2)
        assert len(found) == count
        return found
    finally:
        consumer.close()


@contextlib.asynccontextmanager
async def reading(config: Config, url: str, clock: list[int] | None = None) -> AsyncIterator[FeedClient]:
    """A client that reads the feed while the block runs, and is stopped in order, within five seconds."""
    told = feed_status(config)
    connection = FeedConnection(url, told)
    times = iter(clock or [])
    client = FeedClient(config, connection, told, (lambda: next(times)) if clock else wall_clock)
    keeping, running = asyncio.create_task(connection.run()), asyncio.create_task(client.run())
    try:
        yield client
    finally:
        async with asyncio.timeout(5):
            await connection.close()
            await running
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


def sends(*messages: str | bytes) -> Script:
    async def script(feed: web.WebSocketResponse, number: int) -> None:
        for message in messages:
            await feed.send_frame(message if isinstance(message, bytes) else message.encode(), 1)

    return script


def count(config: Config, name: str) -> object:
    return status(config).detail.get(name)


def test_every_kind_of_message_comes_onto_its_topic(config: Config) -> None:
    calls = f"[{call('b', 'c')},{call('c', 'd')}]"
    now = wall_clock()

    async def run() -> None:
        script = sends(relate("p", "a", "b"), call(), calls, relate("q", "b"), call("x", "y"))
        clock = [now, now, now + 5, now + 5, now + 5]
        async with scripted(script) as feed, reading(config, feed.url, clock):
            await until_async(lambda: count(config, "messages") == 5)
        assert status(config).detail["communications"] == 4
        assert status(config).detail["relations"] == 3

    asyncio.run(run())
    assert [(m.key(), m.value(), m.timestamp()[1]) for m in read(config, "relations", 3)] == [
        (b"a", b'{"parent":"p","child":"a"}', now),
        (b"b", b'{"parent":"p","child":"b"}', now),
        (b"b", b'{"parent":"q","child":"b"}', now + 6),
    ]
    assert {(m.value(), m.timestamp()[1]) for m in read(config, "communications", 3)} == {
        (call().encode(), now),
        (calls.encode(), now + 5),
        (call("x", "y").encode(), now + 6),
    }


def test_what_cannot_be_used_is_a_dead_letter_and_the_rest_goes_on(config: Config) -> None:
    bad: list[tuple[bytes, str]] = [
        (b"hello", Reason.NOT_JSON),
        (b'{"source":"a","destination":"b","httpStatus":NaN}', Reason.NOT_JSON),
        (b"[]", Reason.EMPTY),
        (b"", Reason.EMPTY),
        (b'{"source":"a","destination":7}', Reason.INVALID),
        (b'{"source":"a","destination":"%s"}' % (b"x" * 129), Reason.INVALID),
        (b'{"source":"a","destination":"\xff\xfe"}', Reason.NOT_UTF8),
        (b"[" * 10_000 + b"]" * 10_000, Reason.NESTING),
        (b"x" * 10_000_000, Reason.NOT_JSON),
    ]
    mixed = f'[{call()}, {{"source": "a"}}]'.encode()

    async def run() -> None:
        script = sends(*(message for message, _ in bad), mixed, call("last", "one"))
        async with scripted(script) as feed, reading(config, feed.url):
            await until_async(lambda: count(config, "messages") == 11)
            assert feed.connections == 1
            assert count(config, "refused") == 10

    asyncio.run(run())
    dead = read(config, "dead-letters", 10)
    assert [(m.value(), from_headers(m.headers()).reason) for m in dead[:9]] == bad
    origins = [from_headers(m.headers()) for m in dead]
    assert [origin.offset for origin in origins] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert all(
        origin.source.endswith("/feed") and origin.partition is None and origin.size is None for origin in origins
    )
    assert (dead[9].value(), origins[9].element) == (b'{"source": "a"}', 1)
    assert {m.value() for m in read(config, "communications", 2)} == {
        f"[{call()}]".encode(),
        call("last", "one").encode(),
    }


def test_a_message_larger_than_the_topic_takes_is_kept_in_part_and_its_size_told(config: Config) -> None:
    async def run() -> None:
        async with scripted(sends(b"x" * MAX_MESSAGE)) as feed, reading(config, feed.url):
            await until_async(lambda: count(config, "refused") == 1)

    asyncio.run(run())
    [dead] = read(config, "dead-letters", 1)
    assert dead.value() == b"x" * MAX_DEAD_LETTER
    assert from_headers(dead.headers()).size == MAX_MESSAGE


def test_a_list_too_large_for_one_record_becomes_several(config: Config) -> None:
    calls = [call(f"a{n}", "b" * 100) for n in range(20_000)]

    async def run() -> None:
        async with scripted(sends(f"[{','.join(calls)}]")) as feed, reading(config, feed.url):
            await until_async(lambda: count(config, "communications") == 20_000)

    asyncio.run(run())
    found = [element for m in read(config, "communications", 3) for element in json.loads(m.value() or b"")]
    assert sorted(map(json.dumps, found)) == sorted(calls)


def test_a_feed_that_goes_away_and_comes_back_is_read_on(config: Config) -> None:
    async def script(feed: web.WebSocketResponse, number: int) -> None:
        await feed.send_str(call(f"connection{number}"))
        if number == 0:
            await feed.close()

    async def run() -> None:
        async with scripted(script) as feed, reading(config, feed.url):
            await until_async(lambda: count(config, "communications") == 2)

    asyncio.run(run())
    assert {m.value() for m in read(config, "communications", 2)} == {
        call("connection0").encode(),
        call("connection1").encode(),
    }


class Broker:
    """A Kafka that tests may stop and start (in the main thread: a server ends with its starter)."""

    def __init__(self, config: Config) -> None:
        self.config = config.replace(WEIR_KAFKA=f"127.0.0.1:{config.kafka.port}")
        self._server = KafkaServer(config)
        self._process: Process | None = None

    def start(self) -> None:
        if self._process is None:
            self._server.prepare()
            self._process = self._server.spawn()
            self._server.wait_ready(self._process)

    def kill(self) -> None:
        if self._process:
            end({self._process: signal.SIGKILL}, seconds=5)
        self._process = None

    def pause(self) -> None:
        """From here on it answers nothing."""
        assert self._process
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        if self._process:
            os.kill(self._process.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    port, controller = free_ports(2)
    home = tmp_path_factory.mktemp("own-kafka")
    broker = Broker(
        configuration.load(
            {
                "WEIR_HOME": str(home),
                "WEIR_KAFKA_PORT": str(port),
                "WEIR_KAFKA_CONTROLLER_PORT": str(controller),
            }
        )
    )
    yield broker
    broker.kill()


@pytest.fixture
def broker(own_kafka: Broker, tmp_path: Path) -> Iterator[Broker]:
    """A running Kafka of this file's own, with a home and topics of the test's own, which exist."""
    own_kafka.config = own_kafka.config.replace(WEIR_HOME=tmp_path, WEIR_TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}-")
    own_kafka.start()
    kafka.ensure_topics(own_kafka.config)
    yield own_kafka
    own_kafka.resume()


class Numbers:
    """A script that sends a relation, then communications numbered from 0; knows when it is held back."""

    def __init__(self) -> None:
        self.sent = 0
        self.stuck_since: float | None = None

    async def __call__(self, feed: web.WebSocketResponse, number: int) -> None:
        await feed.send_str(relate("p", "a", "b"))
        while not feed.closed:
            self.stuck_since = time.monotonic()
            await feed.send_str(json.dumps({"source": "a", "destination": "b", "path": f"{self.sent:<20000}"}))
            self.stuck_since = None
            self.sent += 1
            await asyncio.sleep(0.001)

    def is_stuck(self) -> bool:
        return self.stuck_since is not None and time.monotonic() - self.stuck_since > 1.0


def test_while_kafka_is_away_the_feed_is_held_back_and_nothing_is_lost_or_doubled(broker: Broker) -> None:
    config = broker.config
    numbers = Numbers()

    async def run() -> None:
        async with scripted(numbers) as feed, reading(config, feed.url):
            await until_async(lambda: numbers.sent > 200)
            broker.kill()
            await until_async(lambda: status(config).state == "waiting")
            assert count(config, "waiting_for") == "Kafka"
            await until_async(numbers.is_stuck)
            taken = count(config, "messages")
            assert isinstance(taken, int)
            assert taken < numbers.sent
            broker.start()
            await until_async(lambda: status(config).state == "running")
            resumed = numbers.sent
            await until_async(lambda: numbers.sent > resumed + 200)
            assert feed.connections == 1

    asyncio.run(run())
    found = [int(json.loads(m.value() or b"")["path"]) for m in read(config, "communications", numbers.sent)]
    assert sorted(found) == list(range(numbers.sent))


def test_a_relation_is_in_kafka_before_what_came_after_it_is_sent(broker: Broker) -> None:
    config = broker.config

    async def run() -> None:
        async with scripted(sends(relate("p", "a"), call(), "junk")) as feed:
            broker.pause()
            async with reading(config, feed.url):
                await until_async(lambda: status(config).state == "waiting")
                assert count(config, "unacknowledged") == 1  # the relation; neither the call nor the junk
                broker.resume()
                await until_async(lambda: count(config, "messages") == 3)

    asyncio.run(run())
    [relation] = read(config, "relations", 1)
    [communication] = read(config, "communications", 1)
    assert communication.timestamp()[1] >= relation.timestamp()[1]


def test_a_ping_is_answered_once_what_came_before_it_is_in_kafka(broker: Broker) -> None:
    config = broker.config

    async def run() -> None:
        check = FeedCheck(wall_clock)
        server = FeedServer([Timed(0, call().encode()), Timed(0, call().encode())], check)  # pings after what it sends
        url = await server.start("127.0.0.1", 0)
        broker.pause()
        async with reading(config, url):
            await server.play()
            await until_async(lambda: status(config).state == "waiting")
            assert check.in_flight == 2
            broker.resume()
            await until_async(lambda: check.in_flight == 0)
            assert len(read(config, "communications", 2)) == 2
        await server.stop()

    asyncio.run(run())


def test_a_stop_while_kafka_is_away_ends_in_time_and_says_what_is_left(broker: Broker) -> None:
    config = broker.config

    async def run() -> None:
        broker.pause()
        async with scripted(sends(call(), call(), call())) as feed, reading(config, feed.url):
            await until_async(lambda: status(config).state == "waiting")

    with capture_logs() as logs:
        asyncio.run(run())
    [left] = [entry for entry in logs if entry["event"] == "feed.left_behind"]
    assert (left["unacknowledged"], left["message_in_hand"]) == (3, False)
