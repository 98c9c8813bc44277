"""How topics are configured on a real Kafka: differences are shown, and `weir topics --update` ends them."""

from __future__ import annotations

import json

import pytest

from support.command import weir
from weir.infra.config import Config
from weir.infra.kafka import topic_settings
from weir.infra.kafka.client import admin, ensure_topics
from weir.schemas.topics import LATE_EVENTS, LINK_COUNTS, RELATIONS, TOPICS
from weir.services.up import ready_topics

OTHER = {"cleanup.policy": "delete", "retention.ms": "3600000"}


@pytest.fixture
def altered(config: Config) -> Config:
    """A Kafka where link-counts is another's: an hour's, and not compacted."""
    ensure_topics(config)
    topic_settings.alter(config, "link-counts", OTHER)
    return config


def broker(config: Config, topic: str) -> dict[str, str]:
    return topic_settings.settings(admin(config), [config.topic(topic)])[config.topic(topic)]


def test_topics_that_weir_made_are_as_declared(config: Config) -> None:
    ensure_topics(config)
    assert topic_settings.differing(config, TOPICS) == []
    assert broker(config, "late-events")["retention.bytes"] == "-1"


def test_a_topic_that_is_not_there_differs_in_nothing(config: Config) -> None:
    ensure_topics(config, [LATE_EVENTS])
    assert topic_settings.compared(config, [LATE_EVENTS, LINK_COUNTS]) == {"late-events": []}
    assert topic_settings.update(config, [LATE_EVENTS, LINK_COUNTS]) == []


def test_what_differs_is_shown_and_brought_to_what_is_declared(altered: Config, environ: dict[str, str]) -> None:
    name = altered.topic("link-counts")
    shown = weir(environ, "topics", "--json")
    differs = {row["topic"]: row["differs"] for row in json.loads(shown.stdout)}
    assert differs.pop(name) == {
        "cleanup.policy": {"broker": "delete", "declared": "compact,delete"},
        "retention.ms": {"broker": "3600000", "declared": "604800000"},
    }
    assert set(map(str, differs.values())) == {"{}"}
    table = weir(environ | {"COLUMNS": "200"}, "topics")
    assert b"retention.ms=3600000" in table.stdout
    assert b"weir topics --update" in table.stderr
    done = weir(environ, "topics", "--update", "--json")
    assert f"set {name}: retention.ms=604800000, was 3600000".encode() in done.stderr
    assert all(row["differs"] == {} for row in json.loads(done.stdout))
    assert broker(altered, "link-counts")["cleanup.policy"] == "compact,delete"
    assert b"on the broker" not in weir(environ, "topics").stdout


def test_weirs_own_kafka_is_brought_to_what_is_declared_by_itself(altered: Config) -> None:
    host, port = altered.kafka.bootstrap.split(":")
    ready_topics(altered.replace(WEIR_KAFKA=None, WEIR_HOST=host, WEIR_KAFKA_PORT=int(port)))
    assert topic_settings.differing(altered, TOPICS) == []


def test_another_kafka_is_left_alone_and_its_operator_told_in_one_line(
    altered: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    ready_topics(altered)
    assert broker(altered, "link-counts")["retention.ms"] == "3600000"
    said = capsys.readouterr()
    [line] = [line for line in (said.out + said.err).splitlines() if "topics.differ" in line]
    assert "topic link-counts has retention.ms=3600000, declared is 604800000" in line
    assert "`weir topics --update`" in line


def test_a_client_that_may_not_configure_is_told_which_topic(altered: Config) -> None:
    with pytest.raises(topic_settings.WeirError, match=f"topic {altered.topic('relations')} cannot be configured"):
        topic_settings.alter(altered, RELATIONS.name, {"retention.ms": "soon"})
