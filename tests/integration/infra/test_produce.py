"""`weir produce` against a real Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command import started, weir
from weir.infra.config import Config
from weir.infra.kafka.topic_reader import TopicReader
from weir.schemas import examples
from weir.schemas.topic import Topic
from weir.schemas.topics import COMMUNICATIONS, RELATIONS


def written(config: Config, topic: Topic) -> list[tuple[bytes | None, bytes | None]]:
    """Key and value of every record of a topic."""
    with TopicReader(config, topic) as reader:
        return [(record.key, record.value) for record in reader.to_the_end()]


def test_what_is_accepted_is_in_the_topic_and_what_is_refused_is_told(environ: dict[str, str], config: Config) -> None:
    done = weir(
        environ, "produce", "relations", stdin=b'{"parent":"p","child":"c"}\n\nnope\n{"parent":"q","child":"d"}'
    )
    assert done.stdout == b"accepted 2, refused 1\n"
    assert b"line 3: not-json: JSON is malformed" in done.stderr
    assert done.returncode == 1
    assert written(config, RELATIONS) == [(b"c", b'{"parent":"p","child":"c"}'), (b"d", b'{"parent":"q","child":"d"}')]


@pytest.mark.parametrize("topic", [RELATIONS, COMMUNICATIONS], ids=lambda topic: topic.name)
def test_every_good_example_is_accepted(environ: dict[str, str], topic: Topic, tmp_path: Path) -> None:
    lines = [line.replace(b"\n", b" ") for line in examples.load(topic.name).records()]
    file = tmp_path / "lines"
    file.write_bytes(b"\n".join(lines))
    done = weir(environ, "produce", topic.name, str(file))
    assert (done.stdout, done.stderr, done.returncode) == (b"accepted %d, refused 0\n" % len(lines), b"", 0)


def test_every_bad_example_is_refused_and_only_the_first_twenty_are_told(
    environ: dict[str, str], config: Config
) -> None:
    lines = [bad.record() for bad in examples.load("communications").bad if bad.record() and not bad.record().isspace()]
    lines += [b"{"] * 30
    done = weir(environ, "produce", "communications", stdin=b"\n".join(lines))
    assert done.stdout == b"accepted 0, refused %d\n" % len(lines)
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert [line.split(b":")[0] for line in told[:20]] == [b"line %d" % (i + 1) for i in range(20)]
    assert told[20:] == [b"\xe2\x80\xa6 and %d more" % (len(lines) - 20)]
    assert written(config, COMMUNICATIONS) == []


def test_time_and_key_are_what_was_asked_for(environ: dict[str, str], config: Config) -> None:
    line = b'{"source":"a","destination":"b"}'
    done = weir(environ, "produce", "communications", "--timestamp", "2026-01-31T12:00:00Z", "--key", "k", stdin=line)
    assert done.returncode == 0
    with TopicReader(config, COMMUNICATIONS) as reader:
        [record] = reader.to_the_end()
    assert (record.timestamp, record.key, record.value) == (1_769_860_800_000, b"k", line)


def test_what_tail_prints_can_be_sent_again(environ: dict[str, str], config: Config) -> None:
    line = b'{"source":"a","destination":"b"}'
    weir(environ, "produce", "communications", "--timestamp", "1000", "--key", "k", stdin=line)
    shown = weir(environ, "tail", "communications", "--from-beginning", "--count", "1", "--json").stdout
    assert weir(environ, "produce", "communications", "--envelope", stdin=shown).returncode == 0
    with TopicReader(config, COMMUNICATIONS) as reader:
        found = [(record.timestamp, record.key, record.value) for record in reader.to_the_end()]
    assert found == [(1000, b"k", line)] * 2


def test_a_large_file_is_accepted_to_the_last_line(environ: dict[str, str], config: Config) -> None:
    lines = [b'{"source":"a","destination":"b","path":"/%d"}' % i for i in range(50_000)]
    done = weir(environ, "produce", "communications", stdin=b"\n".join(lines))
    assert done.stdout == b"accepted 50000, refused 0\n"
    assert sorted(value for _, value in written(config, COMMUNICATIONS) if value) == sorted(lines)


def test_lines_are_sent_as_they_come(environ: dict[str, str], config: Config) -> None:
    with (
        started(environ, "produce", "relations") as running,
        started(environ, "tail", "relations", "--from-beginning", "--count", "1") as tail,
    ):
        assert running.process.stdin is not None
        running.process.stdin.write(b'{"parent":"p","child":"c"}\n')
        running.process.stdin.flush()
        assert tail.end() == 0
        assert running.interrupt() == 130
    assert running.out == [b"accepted 1, refused 0\n"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nonsense"], b"weir: unknown topic 'nonsense'; known topics: relations, communications, "),
        (["link-counts"], b"weir: topic link-counts is written by weir itself; topics to write to: relations, comm"),
        (["dead-letters"], b"weir: topic dead-letters is written by weir itself; topics to write to: "),
        (["relations", "--key", "k"], b"weir: --key cannot be given: the key of relations is the child"),
    ],
)
def test_what_cannot_be_done_is_one_line(environ: dict[str, str], arguments: list[str], line: bytes) -> None:
    done = weir(environ, "produce", *arguments, stdin=b"{}")
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.startswith(line)
    assert done.stderr.count(b"\n") == 1


def test_a_kafka_that_is_away_is_one_line(environ: dict[str, str]) -> None:
    done = weir(environ | {"WEIR_KAFKA": "127.0.0.1:1"}, "produce", "relations", stdin=b"{}")
    assert (done.returncode, done.stderr) == (1, b"weir: no Kafka answers at 127.0.0.1:1\n")
