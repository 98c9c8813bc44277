"""`weir dead-letters` against a real Kafka."""

from __future__ import annotations

import pytest

from support.command import json_lines, weir
from weir.infra.config import Config
from weir.infra.dead_letters.letters import CannotReplayError, Sending
from weir.infra.dead_letters.replay import Replayer, replays
from weir.infra.kafka import client as kafka
from weir.infra.kafka.lines import Outgoing
from weir.infra.kafka.record_view import RecordView
from weir.infra.kafka.topic_reader import TopicReader
from weir.schemas.dead_letters import REPLAYED_FROM, Origin, Reason, to_headers
from weir.schemas.errors import WeirError
from weir.schemas.topic import MAX_DEAD_LETTER, Topic
from weir.schemas.topics import COMMUNICATIONS, RELATIONS

CALL = b'{"source":"a","destination":"b"}'
RELATION = b'{"parent":"p","child":"c"}'
UNKNOWN = (
    CALL,
    Origin(Reason.UNKNOWN_CHILD, "nobody declared `a`", "communications", 41, 2, element=3, timestamp=60_000),
)
BROKEN = (b"\xffnope", Origin(Reason.NOT_JSON, "JSON is malformed", "communications", 42, 2, timestamp=60_000))
FROM_FEED = (RELATION, Origin(Reason.INVALID, "an old weir did not take it", "ws://feed:8765/", 7, timestamp=120_000))
STRANGE = (CALL, None)
UNKNOWN_REASON = (
    b"weir: unknown reason 'foo'; known reasons: not-json, not-utf8, invalid, empty, nesting, too-large, "
    b"unknown-child, unknown-tenant, timestamp, late, key-type, unknown\n"
)


@pytest.fixture
def refused(config: Config) -> list[str]:
    """The positions of four dead letters: good now, broken for ever, from a feed, and without an origin."""
    kafka.ensure_topics(config)
    producer = kafka.producer(config)
    for value, origin in (UNKNOWN, BROKEN, FROM_FEED, STRANGE):
        headers = [] if origin is None else list(to_headers(origin))
        producer.produce(config.topic("dead-letters"), value, b"k", headers=headers)
    producer.flush()
    return ["0/0", "0/1", "0/2", "0/3"]


def records(config: Config, topic: Topic) -> list[RecordView]:
    """Every record of a topic."""
    with TopicReader(config, topic) as reader:
        return list(reader.to_the_end())


def test_the_list_has_a_line_for_each_and_a_summary(environ: dict[str, str], refused: list[str]) -> None:
    done = weir(environ, "dead-letters", "list")
    assert done.stdout.decode().splitlines() == [
        "0/0\t1970-01-01T00:01:00Z\tunknown-child\tcommunications 2@41[3]\tnobody declared `a`\t32\t",
        "0/1\t1970-01-01T00:01:00Z\tnot-json\tcommunications 2@42\tJSON is malformed\t5\t",
        "0/2\t1970-01-01T00:02:00Z\tinvalid\tws://feed:8765/ 7\tan old weir did not take it\t26\t",
        "0/3\t\tunknown\t\t\t32\t",
    ]
    assert done.stderr == b"4 dead letters: 1 unknown-child, 1 not-json, 1 invalid, 1 unknown\n"


def test_the_list_can_be_of_one_reason_or_of_the_last_ones(environ: dict[str, str], refused: list[str]) -> None:
    of_reason = json_lines(weir(environ, "dead-letters", "list", "--reason", "not-json", "--json").stdout)
    assert [(letter["position"], letter["value"]) for letter in of_reason] == [("0/1", {"base64": "/25vcGU="})]
    last = weir(environ, "dead-letters", "list", "--limit", "1", "--json")
    assert [letter["position"] for letter in json_lines(last.stdout)] == ["0/3"]
    assert last.stderr.endswith(b"(the last 1 are shown)\n")


def test_no_dead_letters_is_an_empty_list(environ: dict[str, str]) -> None:
    done = weir(environ, "dead-letters", "list")
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"0 dead letters\n", 0)


def test_one_is_shown_in_full_or_byte_for_byte(environ: dict[str, str], refused: list[str]) -> None:
    shown = weir(environ, "dead-letters", "show", "0/0").stdout.decode()
    assert "reason         unknown-child\n" in shown
    assert shown.endswith('{\n  "source": "a",\n  "destination": "b"\n}\n')
    assert weir(environ, "dead-letters", "show", "0/1").stdout.endswith(b"\n\\xffnope\n")
    assert weir(environ, "dead-letters", "show", "0/1", "--raw").stdout == BROKEN[0]


def test_a_replay_is_the_message_as_it_was_and_names_the_letter(
    environ: dict[str, str], config: Config, refused: list[str]
) -> None:
    done = weir(environ, "dead-letters", "replay", "0/0", "0/2", "--yes")
    assert (done.stdout, done.returncode) == (b"replayed 2, left out 0\n", 0)
    [call] = records(config, COMMUNICATIONS)
    assert (call.value, call.key, call.timestamp) == (CALL, b"k", 60_000)
    assert call.headers == [(REPLAYED_FROM, b"0/0")]
    [relation] = records(config, RELATIONS)
    assert (relation.value, relation.key, relation.timestamp) == (RELATION, b"c", 120_000)
    listed = json_lines(weir(environ, "dead-letters", "list", "--json").stdout)
    assert [letter["replayed"] and letter["replayed"]["topic"] for letter in listed] == [
        "communications", None, "relations", None,
    ]  # fmt: skip


def test_a_second_replay_has_to_be_asked_for(environ: dict[str, str], config: Config, refused: list[str]) -> None:
    weir(environ, "dead-letters", "replay", "0/0", "--yes")
    second = weir(environ, "dead-letters", "replay", "0/0", "--yes")
    assert (second.stdout, second.returncode) == (b"replayed 0, left out 1\n", 1)
    assert b"0/0 was replayed to communications at " in second.stderr
    assert len(records(config, COMMUNICATIONS)) == 1
    assert weir(environ, "dead-letters", "replay", "0/0", "--yes", "--again").returncode == 0
    assert len(records(config, COMMUNICATIONS)) == 2


def test_all_leaves_out_what_would_be_refused_again(
    environ: dict[str, str], config: Config, refused: list[str]
) -> None:
    done = weir(environ, "dead-letters", "replay", "--all", "--yes")
    assert (done.stdout, done.returncode) == (b"replayed 2, left out 2\n", 0)
    assert b"0/1 would be refused again: not-json" in done.stderr
    assert b"0/3 does not name its source" in done.stderr
    assert weir(environ, "dead-letters", "replay", "--all", "--yes").stdout == b"replayed 0, left out 4\n"


def test_what_is_named_is_sent_with_a_warning(environ: dict[str, str], config: Config, refused: list[str]) -> None:
    done = weir(environ, "dead-letters", "replay", "0/1", "--yes")
    assert done.stdout == b"replayed 1, left out 0\n"
    assert b"weir: warning: 0/1 would be refused again: not-json" in done.stderr
    assert [record.value for record in records(config, COMMUNICATIONS)] == [BROKEN[0]]


def test_one_reason_can_be_replayed(environ: dict[str, str], config: Config, refused: list[str]) -> None:
    done = weir(environ, "dead-letters", "replay", "--reason", "unknown-child", "--yes")
    assert done.stdout == b"replayed 1, left out 0\n"


def test_nothing_is_sent_unasked(environ: dict[str, str], config: Config, refused: list[str]) -> None:
    done = weir(environ, "dead-letters", "replay", "--all")
    assert done.returncode == 1
    assert b"there is no terminal to confirm at, so add --yes" in done.stderr
    assert records(config, COMMUNICATIONS) == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["show", "0/99"], b"weir: no dead letter at 0/99; `weir dead-letters list` shows the positions\n"),
        (["show", "7/0"], b"-dead-letters has no partition 7; it has 0 to 0\n"),
        (["show", "x"], b"weir: 'x' is not a position of a dead letter: write partition/offset, such as 0/17\n"),
        (["replay"], b"weir: no dead letters chosen: give positions, --reason REASON or --all\n"),
        (["list", "--reason", "foo"], UNKNOWN_REASON),
        (["replay", "--reason", "foo"], UNKNOWN_REASON),
        (["replay", "0/0", "--all"], b"weir: no dead letters chosen: give positions, --reason REASON or --all\n"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    environ: dict[str, str], refused: list[str], arguments: list[str], line: bytes
) -> None:
    done = weir(environ, "dead-letters", *arguments)
    assert done.returncode == 1
    assert done.stderr.endswith(line)
    assert done.stderr.count(b"\n") == 1


def sending(position: str) -> Sending:
    """A replay of one call."""
    return Sending(position, COMMUNICATIONS, [Outgoing(CALL)])


def test_a_later_replay_fences_an_earlier_one(config: Config, refused: list[str]) -> None:
    """Or two people who replay at once would each send what the other sends."""
    earlier = Replayer(config)
    later = Replayer(config)
    assert list(later.send([sending("0/0")])) == [1]
    with pytest.raises(CannotReplayError, match="another replay has started"):
        list(earlier.send([sending("0/0")]))
    assert len(records(config, COMMUNICATIONS)) == 1


def test_a_transaction_is_sent_whole_or_not_at_all(config: Config, refused: list[str]) -> None:
    """Here its second message is more than a client sends, which is noticed when the first is on its way."""
    too_large = Sending("0/1", COMMUNICATIONS, [Outgoing(b"x" * (MAX_DEAD_LETTER + 1))])
    replayer = Replayer(config)
    with pytest.raises(WeirError, match="Message size too large"):
        list(replayer.send([sending("0/0"), too_large]))
    assert records(config, COMMUNICATIONS) == []
    assert replays(config) == {}
    assert list(replayer.send([sending("0/0")])) == [1]
    assert list(replays(config)) == ["0/0"]
