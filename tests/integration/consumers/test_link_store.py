"""The sink of link counts: every record has its effect in Postgres once, whatever is killed."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic

from support.command import started, weir
from support.engine.messages import message
from support.links.link_records import Job, cell, closed
from support.links.link_store_client import LinkStoreClient, expected
from support.servers.own_servers import OwnServer, own
from support.wait import PATIENCE_S, until
from weir.consumers.links.tables import LINK_TABLES
from weir.consumers.sinks.batch import Batch, Batcher, RefusedRow, TableRows
from weir.consumers.sinks.store import OffsetConflictError, SinkStore, StandbyError
from weir.infra import config as configuration
from weir.infra import postgres
from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.ports import free_ports
from weir.infra.servers.postgres import PostgresServer
from weir.schemas.dead_letters import Reason, from_headers

RUN = ("run", "link-store")


@pytest.fixture
def probe(config: Config) -> LinkStoreClient:
    return LinkStoreClient(config)


@pytest.fixture
def job(config: Config) -> Job:
    return Job(config)


@pytest.fixture
def locked(config: Config) -> Iterator[psycopg.Connection]:
    """A connection that keeps everybody from writing link_counts until it rolls back."""
    postgres.migrate(config)
    with holding_up(config) as connection:
        yield connection


@contextmanager
def holding_up(config: Config) -> Iterator[psycopg.Connection]:
    connection = postgres.connect(config, "test")
    connection.execute("BEGIN")
    connection.execute("LOCK TABLE link_counts IN SHARE MODE")
    yield connection
    connection.close()


def test_the_latest_count_of_every_pair_is_stored_and_so_are_the_closings(
    environ: dict[str, str], probe: LinkStoreClient, job: Job
) -> None:
    first = [cell(0, "a", "b", 1), cell(0, "b", "a", 1), cell(1, "a", "b", 5)]
    job.write(*((n % 4, record) for n, record in enumerate(first)))
    with started(environ, *RUN):
        until(lambda: probe.rows() == expected(first))
        last = [cell(0, "a", "b", 2, final=True), cell(0, "b", "a", 7, final=True)]
        job.write((0, last[0]), (1, last[1]), (0, closed(0, 0, 1, 4)), (1, closed(0, 1, 1, 4)))
        until(lambda: probe.rows() == expected([*first, *last]))
        until(lambda: probe.ask("SELECT partition, partitions, cells FROM link_windows ORDER BY 1")
              == [(0, 4, 1), (1, 4, 1)])  # fmt: skip
    assert probe.offsets()["link-counts", 0] >= 3


def test_it_starts_at_the_beginning_of_the_topics_once_and_goes_on_from_there_after_a_stop(
    environ: dict[str, str], probe: LinkStoreClient, job: Job
) -> None:
    job.write((0, cell(0, "a", "b", 1)))
    with started(environ, *RUN) as sink:
        until(probe.rows)
        sink.process.send_signal(signal.SIGTERM)
        assert sink.process.wait(PATIENCE_S) == 0
    assert probe.status() is None
    probe.ask("DELETE FROM link_counts RETURNING 1")  # what is stored is not stored again
    job.write((0, cell(0, "c", "d", 2)))
    with started(environ, *RUN):
        until(lambda: probe.rows() == expected([cell(0, "c", "d", 2)]))


def test_ids_that_look_like_sql_or_like_escapes_are_stored_as_they_are(
    environ: dict[str, str], probe: LinkStoreClient, job: Job
) -> None:
    ids = [
        "'; DROP TABLE link_counts; --", '"', "\\N", "\\", "%s", "$1", "{}", "NULL", "ü 🜂", "a" * 128, "🜂" * 128,
        "x' OR '1'='1", "\\.", " ", "a b",
    ]  # fmt: skip
    records = [cell(0, source, destination, n) for n, source in enumerate(ids) for destination in ids]
    job.write(*((0, record) for record in records))
    with started(environ, *RUN):
        until(lambda: probe.rows() == expected(records))


def test_what_cannot_be_stored_becomes_a_dead_letter_and_the_rest_goes_on(
    environ: dict[str, str], config: Config, probe: LinkStoreClient, job: Job
) -> None:
    nul = msgspec.json.encode(cell(0, "a\0b", "c", 1))
    bad: list[tuple[bytes, Reason]] = [
        (nul, Reason.INVALID),
        (b"hello", Reason.NOT_JSON),
        (b"\xff\xfe", Reason.NOT_JSON),
        (b"[]", Reason.EMPTY),
        (msgspec.json.encode(cell(0, "a", "b", 2**63)), Reason.INVALID),
        (b"[" * 10_000 + b"]" * 10_000, Reason.NESTING),
    ]
    job.write((2, cell(0, "a", "b", 1)), *((2, value) for value, _ in bad), (2, cell(0, "c", "d", 1)))
    with started(environ, *RUN):
        until(lambda: probe.rows() == expected([cell(0, "a", "b", 1), cell(0, "c", "d", 1)]))
        until(lambda: probe.facts() == {"records": 8, "refused": 6})
    letters = probe.dead_letters()
    assert [letter.value() for letter in letters] == [value for value, _ in bad]
    origins = [from_headers(letter.headers()) for letter in letters]
    assert [origin.reason for origin in origins] == [reason for _, reason in bad]
    assert [origin.offset for origin in origins] == list(range(1, 7))
    assert {(o.source, o.partition, o.job) for o in origins} == {(config.topic("link-counts"), 2, "link-store")}


def test_an_offset_does_not_advance_before_its_dead_letter_is_acknowledged(
    environ: dict[str, str], config: Config, probe: LinkStoreClient
) -> None:
    small = NewTopic(config.topic("dead-letters"), num_partitions=1, config={"max.message.bytes": "1000"})
    admin = kafka.admin(config)
    admin.create_topics([small])[small.topic].result()
    job = Job(config)
    job.write((0, cell(0, "a", "b", 1)), (0, random.Random(1).randbytes(5000)))
    result = weir(environ, *RUN)
    assert result.returncode == 1
    assert b"Kafka: " in result.stderr.splitlines()[-1]
    assert probe.rows() == {}
    assert probe.offsets()["link-counts", 0] == 0


def test_what_a_transaction_took_back_is_not_stored(environ: dict[str, str], probe: LinkStoreClient, job: Job) -> None:
    job.abort((0, cell(0, "a", "b", 666)))
    job.write((0, cell(0, "c", "d", 1)))
    with started(environ, *RUN):
        until(lambda: probe.rows() == expected([cell(0, "c", "d", 1)]))


def test_killed_in_the_midst_of_a_batch_it_stores_that_batch_once_in_its_next_life(
    environ: dict[str, str], probe: LinkStoreClient, job: Job, locked: psycopg.Connection
) -> None:
    records = [cell(n, "a", f"p{m}", m) for n in range(5) for m in range(200)]
    with started(environ, *RUN) as sink:
        job.write(*((n % 4, record) for n, record in enumerate(records)))
        until(probe.storing)
        sink.process.kill()
        sink.process.wait()
    locked.rollback()
    assert probe.rows() == {}
    assert set(probe.offsets().values()) == {0}
    with started(environ, *RUN):
        until(lambda: probe.rows() == expected(records))


@pytest.mark.long
def test_killed_again_and_again_at_any_moment_it_ends_with_the_exact_rows(
    environ: dict[str, str], probe: LinkStoreClient, job: Job
) -> None:
    chance = random.Random(7)
    truth = {}
    for _ in range(6):
        with started(environ, *RUN) as sink:
            until(lambda: probe.state() == "running")
            for _ in range(chance.randrange(1, 6)):
                batch = [
                    cell(chance.randrange(3), "a", f"p{chance.randrange(500)}", chance.randrange(10**9))
                    for _ in range(2000)
                ]
                job.write(*((hash_of(record.destination), record) for record in batch))
                truth |= expected(batch)
            sink.process.kill()
            sink.process.wait()
    with started(environ, *RUN):
        until(lambda: probe.rows() == truth)


def hash_of(destination: str) -> int:
    """A pair has one partition, as with the links job."""
    return int(destination[1:]) % 4


def test_a_second_instance_stands_by_and_takes_over(environ: dict[str, str], probe: LinkStoreClient, job: Job) -> None:
    elsewhere = environ | {"WEIR_HOME": environ["WEIR_HOME"] + "-2"}
    second = LinkStoreClient(configuration.load({k: v for k, v in elsewhere.items() if k.startswith("WEIR_")}))
    with started(environ, *RUN) as one:
        until(lambda: probe.state() == "running")
        with started(elsewhere, *RUN):
            until(lambda: "another link-store is at work" in second.error())
            assert second.state() == "waiting"
            job.write((0, cell(0, "a", "b", 1)))
            until(lambda: probe.rows() == expected([cell(0, "a", "b", 1)]))
            one.process.kill()
            one.process.wait()
            job.write((0, cell(0, "a", "b", 2)))
            until(lambda: probe.rows() == expected([cell(0, "a", "b", 2)]))
            until(lambda: second.state() == "running")


def test_a_paused_instance_that_comes_back_changes_nothing_and_stands_by(
    environ: dict[str, str], probe: LinkStoreClient, job: Job, locked: psycopg.Connection
) -> None:
    elsewhere = environ | {"WEIR_HOME": environ["WEIR_HOME"] + "-2"}
    with started(environ, *RUN) as zombie:
        until(lambda: probe.state() == "running")
        old = [cell(0, "a", f"p{n}", 1) for n in range(1000)]
        job.write(*((0, record) for record in old))
        until(probe.storing)  # its transaction is open, its rows are on their way
        zombie.process.send_signal(signal.SIGSTOP)
        # What the server does by itself after ten seconds of silence.
        [paused] = probe.sessions()
        probe.ask("SELECT pg_terminate_backend(%s)", paused)
        locked.rollback()
        with started(elsewhere, *RUN):
            until(lambda: probe.sessions() not in ([], [paused]))
            new = [cell(0, "a", f"p{n}", 2) for n in range(1000)]
            job.write(*((0, record) for record in new))
            until(lambda: probe.rows() == expected(new))
            zombie.process.send_signal(signal.SIGCONT)
            until(lambda: "another link-store is at work" in probe.error())
            assert probe.rows() == expected(new)


def test_a_batch_whose_offsets_have_moved_meanwhile_is_not_stored(config: Config, probe: LinkStoreClient) -> None:
    postgres.migrate(config)
    place = ("link-counts", 0)
    parts = {"link_counts": TableRows(LINK_TABLES[0], [LINK_TABLES[0].row(cell(0, "a", "b", 1), 0)])}
    with SinkStore(config, "link-store", LINK_TABLES) as store:
        assert store.offsets({place: 5}) == {place: 5}
        store.write(Batch(next_offsets={place: 7}), {place: 5})
        assert store.offsets({place: 0}) == {place: 7}
        with pytest.raises(OffsetConflictError):
            store.write(Batch(parts, next_offsets={place: 9}), {place: 5})
        assert store.offsets({place: 0}) == {place: 7}
        with pytest.raises(StandbyError):
            SinkStore(config, "link-store", LINK_TABLES)
    assert probe.rows() == {}


def test_records_deleted_before_they_were_stored_are_said_and_not_passed_over(
    environ: dict[str, str], config: Config, probe: LinkStoreClient, job: Job
) -> None:
    job.write((0, cell(0, "a", "b", 1)))
    with started(environ, *RUN):
        until(probe.rows)
    job.write(*((0, cell(n, "a", "b", 1)) for n in range(10)))
    place = TopicPartition(config.topic("link-counts"), 0, 8)
    admin = kafka.admin(config)
    admin.delete_records([place])[place].result()
    result = weir(environ, *RUN)
    assert result.returncode == 1
    assert b"link-counts/0: the next offset to read no longer exists, and the first offset is 8" in result.stderr
    assert probe.offsets()["link-counts", 0] == 1


def test_postgres_killed_in_the_midst_of_a_batch_is_waited_for_and_every_row_lands_once(
    environ: dict[str, str], config: Config, job: Job
) -> None:
    [port] = free_ports(1)
    mine = environ | {"WEIR_POSTGRES_PORT": str(port)}
    del mine["WEIR_POSTGRES"]
    settings = config.replace(WEIR_POSTGRES=None, WEIR_POSTGRES_PORT=port)
    probe = LinkStoreClient(settings)
    records = [cell(0, "a", f"p{n}", n) for n in range(3000)]
    with own(PostgresServer(settings)) as server, started(mine, *RUN) as sink:
        until(lambda: probe.state() == "running")
        with holding_up(settings):
            job.write(*((n % 4, record) for n, record in enumerate(records)))
            until(probe.storing)
            server.kill()
        until(lambda: probe.state() == "waiting" and "no Postgres answers at" in probe.error())
        assert sink.process.poll() is None
        server.start()
        until(lambda: probe.rows() == expected(records))
        assert sum(probe.offsets().values()) >= len(records)
        server.stop()  # now while it is idle: it notices by itself
        until(lambda: probe.state() == "waiting")
        sink.process.send_signal(signal.SIGTERM)
        assert sink.process.wait(PATIENCE_S) == 0


def test_kafka_away_is_waited_for_and_what_was_acknowledged_is_stored(
    environ: dict[str, str], kafka_of_its_own: tuple[Config, OwnServer], probe: LinkStoreClient
) -> None:
    settings, server = kafka_of_its_own
    mine = {name: value for name, value in environ.items() if name != "WEIR_KAFKA"}
    mine["WEIR_KAFKA_PORT"] = str(settings.kafka.port)
    with started(mine, *RUN) as sink:
        Job(settings).write((0, cell(0, "a", "b", 1)))
        until(lambda: probe.rows() == expected([cell(0, "a", "b", 1)]))
        server.stop()
        until(lambda: probe.state() == "waiting" and "Kafka" in probe.error())
        server.start()
        Job(settings).write((0, cell(0, "a", "b", 2)))
        until(lambda: probe.rows() == expected([cell(0, "a", "b", 2)]))
        until(lambda: probe.state() == "running")
        server.stop()
        until(lambda: probe.state() == "waiting")
        sink.process.send_signal(signal.SIGTERM)
        assert sink.process.wait(PATIENCE_S) == 0


def test_it_ends_though_a_lock_holds_it_up(
    environ: dict[str, str], probe: LinkStoreClient, job: Job, locked: psycopg.Connection
) -> None:
    with started(environ, *RUN) as sink:
        job.write((0, cell(0, "a", "b", 1)))
        until(probe.storing)
        sink.process.send_signal(signal.SIGTERM)
        assert sink.process.wait(PATIENCE_S) == 0


def test_many_refused_elements_are_told_of_some_at_a_time_and_none_twice(config: Config) -> None:
    postgres.migrate(config)
    place = ("link-counts", 0)
    poison = b"[" + b",".join([b"0"] * 120_001) + b"]"
    batch = Batcher("link-store", {t.topic.name: t for t in LINK_TABLES}).batch([message(*place, 0, poison)])
    told: list[int | None] = []
    sizes: list[int] = []

    def tell(refused: Sequence[RefusedRow]) -> None:
        sizes.append(len(refused))
        told.extend(one.origin.element for one in refused)

    with SinkStore(config, "link-store", LINK_TABLES) as store:
        store.write(batch, store.offsets({place: 0}), tell)
        assert store.offsets({place: 0}) == {place: 1}
    assert told == list(range(120_001))
    assert len(sizes) > 1
