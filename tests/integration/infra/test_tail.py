"""`weir tail` against a real Kafka."""

from __future__ import annotations

import subprocess

import pytest

from support.command import json_lines, started, weir
from support.processes import COMMAND
from support.wait import PATIENCE_S
from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.schemas.topics import COMMUNICATIONS, RELATIONS


def relation(child: str) -> bytes:
    """A line for `relations`."""
    return b'{"parent":"p","child":"%s"}\n' % child.encode()


def test_from_the_beginning_shows_what_is_there(environ: dict[str, str]) -> None:
    weir(environ, "produce", "relations", "--timestamp", "60000", stdin=relation("a") + relation("b"))
    done = weir(environ, "tail", "relations", "--from-beginning", "--count", "2")
    assert done.stdout.splitlines() == [
        b'1970-01-01T00:01:00Z 0@0 a {"parent":"p","child":"a"}',
        b'1970-01-01T00:01:00Z 0@1 b {"parent":"p","child":"b"}',
    ]
    assert (done.stderr, done.returncode) == (b"", 0)


def test_json_has_everything_of_a_record(environ: dict[str, str], config: Config) -> None:
    kafka.ensure_topics(config, [COMMUNICATIONS])
    producer = kafka.producer(config)
    headers: list[tuple[str, str | bytes | None]] = [("h", b"v"), ("n", None)]
    producer.produce(config.topic("communications"), b"\xff", b"k", partition=1, timestamp=1, headers=headers)
    producer.flush()
    done = weir(environ, "tail", "communications", "--from-beginning", "--count", "1", "--json")
    assert json_lines(done.stdout) == [
        {
            "topic": "communications",
            "partition": 1,
            "offset": 0,
            "timestamp": "1970-01-01T00:00:00.001Z",
            "key": "k",
            "value": {"base64": "/w=="},
            "headers": {"h": "v", "n": None},
        }
    ]


def test_without_from_beginning_only_what_comes_after_the_start_is_shown(environ: dict[str, str]) -> None:
    weir(environ, "produce", "relations", stdin=relation("before"))
    with started(environ, "tail", "relations", "--count", "1", "--json") as running:
        running.wait_for_error_line(b"waiting for new records in relations")
        weir(environ, "produce", "relations", stdin=relation("after"))
        assert running.end() == 0
    assert [record["key"] for record in json_lines(b"".join(running.out))] == ["after"]


def test_only_committed_records_are_shown(environ: dict[str, str], config: Config) -> None:
    kafka.ensure_topics(config, [RELATIONS])
    producer = kafka.producer(config, **{"transactional.id": config.topic("test")})
    producer.init_transactions(30)
    for child, end in ((b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(config.topic("relations"), b"{}", child)
        producer.flush()
        end(30)
    done = weir(environ, "tail", "relations", "--from-beginning", "--count", "1", "--json")
    assert [record["key"] for record in json_lines(done.stdout)] == ["committed"]


def test_one_partition_can_be_chosen(environ: dict[str, str], config: Config) -> None:
    kafka.ensure_topics(config, [COMMUNICATIONS])
    producer = kafka.producer(config)
    for partition in range(config.kafka.partitions):
        producer.produce(config.topic("communications"), b"{}", partition=partition)
    producer.flush()
    done = weir(environ, "tail", "communications", "--from-beginning", "--partition", "2", "--count", "1", "--json")
    assert [record["partition"] for record in json_lines(done.stdout)] == [2]


def test_ctrl_c_is_quiet(environ: dict[str, str]) -> None:
    with started(environ, "tail", "relations") as running:
        running.wait_for_error_line(b"waiting")
        assert running.interrupt() == 130
    assert running.out == []
    assert len(running.err) == 1


def test_a_reader_that_has_had_enough_ends_it_quietly(environ: dict[str, str]) -> None:
    """Also where no further record comes, whose write would tell."""
    weir(environ, "produce", "relations", stdin=b"".join(relation(str(i)) for i in range(3)))
    process = subprocess.Popen(
        [*COMMAND, "tail", "relations", "--from-beginning"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().endswith(b'{"parent":"p","child":"0"}\n')
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nonsense"], b"weir: unknown topic 'nonsense'; known topics: relations, communications, "),
        (["relations", "--partition", "1"], b"-relations has no partition 1; it has 0 to 0\n"),
    ],
)
def test_what_cannot_be_done_is_one_line(environ: dict[str, str], arguments: list[str], line: bytes) -> None:
    done = weir(environ, "tail", *arguments)
    assert done.returncode == 1
    assert line in done.stderr
    assert done.stderr.count(b"\n") == 1
