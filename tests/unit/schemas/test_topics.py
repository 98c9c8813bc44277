"""The list of topics: complete, consistent, and each entry usable as it stands."""

from __future__ import annotations

import re

import pytest

from weir.schemas.errors import UnknownTopicError
from weir.schemas.links import Relation
from weir.schemas.topic import Topic
from weir.schemas.topics import RELATIONS, TOPICS, by_name

each_topic = pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)


def test_names_are_unique() -> None:
    assert len({topic.name for topic in TOPICS}) == len(TOPICS)


@each_topic
def test_a_name_is_one_that_kafka_takes(topic: Topic) -> None:
    assert re.fullmatch(r"[a-z0-9-]{1,100}", topic.name)


@each_topic
def test_a_topic_says_who_writes_it_and_what_is_in_it(topic: Topic) -> None:
    assert topic.owner
    assert topic.description
    assert topic.key


@each_topic
def test_events_are_never_deleted_for_their_age(topic: Topic) -> None:
    """Kafka measures age by the record's own timestamp: last year's events, replayed, would vanish while read."""
    if topic.owner == "producers":
        assert topic.config["retention.ms"] == "-1"


def test_a_topic_is_found_by_its_name() -> None:
    assert by_name("relations") is RELATIONS


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UnknownTopicError, match=r"'nonsense'.*relations, communications"):
        by_name("nonsense")


def test_the_key_of_a_relation_is_its_child() -> None:
    assert RELATIONS.key_of is not None
    assert RELATIONS.key_of(Relation(parent="shop", child="größe")) == "größe".encode()
