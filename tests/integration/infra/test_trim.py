"""`weir trim` against a real Kafka and a real Postgres."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from support.command import at_a_terminal, started, weir
from support.wait import until
from support.workers import Results, workers
from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.kafka.topic_reader import TopicReader
from weir.infra.kafka.trim import Trimmer
from weir.infra.postgres import migrate
from weir.schemas.topic import Topic
from weir.schemas.topics import COMMUNICATIONS, DEAD_LETTERS, LINK_COUNTS, LINKS_PARTIALS, RELATIONS
from weir.services.trim_holds import holds

A_DAY_AGO = (int(time.time()) // 60 - 1_440) * 60_000
CALL = b'{"source":"a","destination":"b"}'


@pytest.fixture
def letters(config: Config) -> Config:
    """Six records of a topic that nobody needs and that Kafka keeps whatever their time, one a second from 1 s on."""
    kafka.ensure_topics(config)
    produce(config, DEAD_LETTERS, 6)
    return config


def produce(config: Config, topic: Topic, number: int, partition: int = 0) -> None:
    for second in range(1, number + 1):
        send(config, topic, CALL, second * 1000, partition)


def send(config: Config, topic: Topic, value: bytes, timestamp: int, partition: int = 0) -> None:
    producer = kafka.producer(config)
    producer.produce(config.topic(topic.name), value, b"", partition=partition, timestamp=timestamp)
    producer.flush()


def commit(config: Config, topic: Topic, offset: int, partition: int = 0) -> None:
    """As the links job does it for what it has processed."""
    consumer = kafka.consumer(config, "links")
    consumer.commit(offsets=[TopicPartition(config.topic(topic.name), partition, offset)], asynchronous=False)
    consumer.close()


def offsets(config: Config, topic: Topic, partition: int = 0) -> list[int]:
    with TopicReader(config, topic, partition=partition) as reader:
        return [record.offset for record in reader.to_the_end()]


@pytest.mark.parametrize(
    ("how_far", "left"),
    [
        ([], []),
        (["--keep", "2"], [4, 5]),
        (["--keep", "7"], [0, 1, 2, 3, 4, 5]),
        (["--before", "1970-01-01T00:00:03Z"], [2, 3, 4, 5]),
        (["--before", "2500"], [2, 3, 4, 5]),
        (["--before", "2026-01-01T00:00:00Z"], []),
    ],
)
def test_it_deletes_up_to_there(environ: dict[str, str], letters: Config, how_far: list[str], left: list[int]) -> None:
    done = weir(environ, "trim", "dead-letters", "--yes", *how_far)
    assert done.returncode == 0, done
    assert done.stdout == f"deleted {6 - len(left)} offsets of dead-letters\n".encode()
    assert offsets(letters, DEAD_LETTERS) == left


def test_what_is_deleted_is_shown_and_asked_about(environ: dict[str, str], letters: Config) -> None:
    shown = b"partition 0: offsets 0 to 3 go, 2 stay\n"
    done = weir(environ, "trim", "dead-letters", "--keep", "2")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == shown + b"weir: nothing was deleted: there is no terminal to confirm at, so add --yes\n"
    for answer, left in ((b"n\n", [0, 1, 2, 3, 4, 5]), (b"y\n", [4, 5])):
        assert at_a_terminal(environ, answer, "trim", "dead-letters", "--keep", "2") == (answer == b"n\n")
        assert offsets(letters, DEAD_LETTERS) == left


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nope"], "unknown topic 'nope'; known topics: "),
        (["late-events", "--keep", "1", "--before", "1"], "--keep and --before cannot be used together"),
        (["dead-letter-replays"], "dead-letter-replays is compacted (it keeps the latest record per key)"),
    ],
)
def test_what_cannot_be_trimmed_is_one_line(environ: dict[str, str], arguments: list[str], error: str) -> None:
    done = weir(environ, "trim", *arguments)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(f"weir: {error}".encode())
    assert done.stderr.count(b"\n") == 1


@pytest.mark.long
def test_a_kafka_that_is_away_is_one_line(environ: dict[str, str]) -> None:
    done = weir(environ | {"WEIR_KAFKA": "127.0.0.1:1"}, "trim", "late-events")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"weir: no Kafka answers at 127.0.0.1:1\n"


def test_what_a_job_has_not_committed_stays_unless_it_is_forced(environ: dict[str, str], config: Config) -> None:
    kafka.ensure_topics(config)
    produce(config, COMMUNICATIONS, 6)
    produce(config, COMMUNICATIONS, 3, partition=1)
    commit(config, COMMUNICATIONS, 4)
    done = weir(environ, "trim", "communications", "--yes")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.splitlines()[-3:] == [
        b"partition 0 is needed from offset 4 on: job links has not committed it",
        b"partition 1 is needed from offset 0 on: job links has not committed it",
        b"weir: nothing was deleted: some records are still needed; --force deletes them anyway",
    ]
    assert offsets(config, COMMUNICATIONS) == [0, 1, 2, 3, 4, 5]

    commit(config, COMMUNICATIONS, 3, partition=1)
    assert weir(environ, "trim", "communications", "--keep", "2", "--yes").returncode == 0
    assert offsets(config, COMMUNICATIONS) == [4, 5]

    assert (
        weir(environ, "trim", "communications", "--force", "--yes").stdout == b"deleted 4 offsets of communications\n"
    )
    assert offsets(config, COMMUNICATIONS) + offsets(config, COMMUNICATIONS, 1) == []


@pytest.mark.parametrize(
    ("topic", "why"),
    [
        (RELATIONS, b"job links reads all of it whenever a worker starts"),
        (LINKS_PARTIALS, b"it is job links's own"),
    ],
)
def test_what_a_job_starts_from_stays_though_it_is_committed(
    environ: dict[str, str], config: Config, topic: Topic, why: bytes
) -> None:
    kafka.ensure_topics(config)
    produce(config, topic, 1)
    commit(config, topic, 1)
    done = weir(environ, "trim", topic.name, "--yes")
    assert done.returncode == 1
    assert b"partition 0 is needed from offset 0 on: " + why in done.stderr.splitlines()


@pytest.mark.long
def test_results_stay_from_where_a_job_restores_and_until_they_are_in_postgres(
    environ: dict[str, str], config: Config, tmp_path: Path
) -> None:
    environ |= {"WEIR_PARTITIONS": "1", "WEIR_LINKS_WINDOW": "1s", "WEIR_LINKS_GRACE": "0s"}
    environ |= {"WEIR_LINKS_RETENTION": "1s", "WEIR_MAX_SKEW": "1s"}  # what cannot be revised is not restored
    assert weir(environ, "topics", "--create").returncode == 0
    migrate(config)
    send(config, RELATIONS, b'{"parent":"p","child":"a"}', 1)
    call = b'{"source":"a","destination":"a"}'
    results = Results(config)
    minutes = count(1)

    def more_until_the_first_cannot_be_revised() -> bool:
        minute = next(minutes)
        send(config, COMMUNICATIONS, call, A_DAY_AGO + 60_000 * minute)
        until(lambda: results.merged == minute)
        return any(hold.offset for hold in holds(config, LINK_COUNTS, [0]) if "restores" in hold.why)

    with workers(environ, tmp_path) as running:
        running.start()
        until(more_until_the_first_cannot_be_revised)
        running.kill(running.running[0])

    refused = weir(environ, "trim", "link-counts", "--yes")
    assert refused.returncode == 1
    needed = [line.decode() for line in refused.stderr.splitlines() if b"is needed" in line]
    assert [line.partition(": ")[2] for line in needed] == [
        "job links restores its state from it",
        "link-store has not stored it",
    ]
    restored_from = int(needed[0].split()[6])
    [edges] = Trimmer(config, LINK_COUNTS).edges().values()
    assert 0 < restored_from < edges.end

    with started(environ, "run", "link-store"):
        keep = str(edges.end - restored_from)
        until(lambda: weir(environ, "trim", "link-counts", "--yes", "--keep", keep).returncode == 0)
    assert offsets(config, LINK_COUNTS)[0] >= restored_from
    assert weir(environ, "trim", "link-counts", "--yes", "--keep", str(int(keep) - 1)).returncode == 1
    with workers(environ, tmp_path) as running:  # it starts from what was left, and goes on
        running.start()
        before = results.merged
        send(config, COMMUNICATIONS, call, A_DAY_AGO + 60_000 * next(minutes))
        until(lambda: results.merged == before + 1)


def test_where_postgres_is_away_results_stay(environ: dict[str, str], config: Config) -> None:
    kafka.ensure_topics(config)
    send(config, LINK_COUNTS, CALL, A_DAY_AGO)  # what is older than a week goes by itself
    done = weir(environ | {"WEIR_POSTGRES": "postgresql://nobody@127.0.0.1:1/none"}, "trim", "link-counts", "--yes")
    assert done.returncode == 1
    assert b"partition 0 is needed from offset 0 on: how far link-store has stored it is not known: " in done.stderr
