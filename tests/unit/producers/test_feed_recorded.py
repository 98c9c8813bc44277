"""Recorded and random feeds: what is played."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest

from weir.infra.errors import ConfigError
from weir.producers.feed.messages import Classifier, Communications, Relations
from weir.producers.simulators.feed.generated import RandomFeed
from weir.producers.simulators.feed.recorded import (
    FeedFileError,
    Recorder,
    Recording,
    Timed,
    line,
    measure,
    read,
    repeat,
)
from weir.producers.simulators.feed.samples import SAMPLE


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    return tmp_path / "a.feed.ndjson"


def test_a_recorded_feed_is_read_line_by_line_with_the_messages_as_they_stand(feed: Path) -> None:
    feed.write_text('{"at": 0, "message": [ ]}\n\n{"message":{"b": 1},"at":1.5}\n{"at":1.5,"message":"x"}')
    assert list(read(feed)) == [Timed(0, b"[ ]"), Timed(1.5, b'{"b": 1}'), Timed(1.5, b'"x"')]
    assert measure(feed) == Recording(3, 1.5)


def test_again_and_again_time_goes_on(feed: Path) -> None:
    feed.write_text('{"at":0.5,"message":1}\n{"at":2,"message":2}\n')
    assert list(itertools.islice(repeat(feed, 2.0), 5)) == [
        Timed(0.5, b"1"), Timed(2, b"2"), Timed(3.5, b"1"), Timed(5, b"2"), Timed(6.5, b"1"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"hello", ":2: JSON is malformed"),
        (b'{"at":1}', ":2: Object missing required field `message`"),
        (b'{"at":"soon","message":1}', ":2: Expected `float`, got `str`"),
        (b'{"at":NaN,"message":1}', ":2: JSON is malformed"),
        (b'{"at":-1,"message":1}', ":2: `at` is -1, which is before 0.5"),
        (b'{"at":0.25,"message":1}', ":2: `at` is 0.25, which is before 0.5"),
        (b"[" * 10_000, ":2: "),
    ],
)
def test_a_bad_line_is_named(feed: Path, bad: bytes, message: str) -> None:
    feed.write_bytes(b'{"at":0.5,"message":1}\n' + bad + b"\n")
    with pytest.raises(FeedFileError) as caught:
        measure(feed)
    assert f"{feed}{message}" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_no_feed(feed: Path, content: bytes) -> None:
    feed.write_bytes(content)
    with pytest.raises(FeedFileError, match="no message"):
        measure(feed)


def test_a_file_that_is_not_there_is_said_in_one_line(feed: Path) -> None:
    with pytest.raises(FeedFileError, match=r"a\.feed\.ndjson: No such file or directory"):
        measure(feed)


def test_what_is_recorded_can_be_read(feed: Path) -> None:
    sent = list(RandomFeed(duration=30, seed=5, batch=3).messages())
    recorder = Recorder(feed)
    for timed in sent:
        recorder.write(timed)
    recorder.close()
    assert [message for _, message in read(feed)] == [message for _, message in sent]
    assert [at for at, _ in read(feed)] == pytest.approx([at for at, _ in sent])


def test_a_recording_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FeedFileError, match="Is a directory"):
        Recorder(tmp_path)


def test_the_same_seed_gives_the_same_feed() -> None:
    assert list(RandomFeed(duration=60, seed=1).messages()) == list(RandomFeed(duration=60, seed=1).messages())
    assert list(RandomFeed(duration=60, seed=1).messages()) != list(RandomFeed(duration=60, seed=2).messages())


def test_a_random_feed_is_as_it_was_asked_for() -> None:
    messages = list(
        RandomFeed(parents=3, children=40, rate=10, relations_every=7, batch=5, duration=60, seed=9).messages()
    )
    parts = [(at, part) for at, message in messages for part in Classifier().parts(message)]
    relations = [(at, part) for at, part in parts if isinstance(part, Relations)]
    calls = [part for _, part in parts if isinstance(part, Communications)]
    assert [at for at, _ in relations] == [0, 7, 14, 21, 28, 35, 42, 49, 56]
    assert len(relations[0][1].records) == 40
    assert [call.count for call in calls] == [5] * 120
    assert [at for at, _ in messages] == sorted(at for at, _ in messages)


def test_a_random_feed_moves_children_and_calls_only_those_that_it_declared() -> None:
    parents: dict[str, str] = {}
    moved = 0
    for _, message in RandomFeed(duration=300, seed=3).messages():
        found = msgspec.json.decode(message)
        for element in found if isinstance(found, list) else [found]:
            if "child" in element:
                moved += parents.get(element["child"], element["parent"]) != element["parent"]
                parents[element["child"]] = element["parent"]
            else:
                assert {element["source"], element["destination"]} <= parents.keys()
    assert moved


@pytest.mark.parametrize(
    "bad",
    [{"parents": 0}, {"children": 1}, {"batch": 0}, {"rate": 0}, {"rate": -1}, {"relations_every": 0}, {"duration": -1},
     {"rate": float("nan")}],
)  # fmt: skip
def test_values_that_make_no_feed_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        RandomFeed(**bad)


def test_the_shipped_sample_is_what_its_recipe_gives() -> None:
    recipe = RandomFeed(parents=16, children=180, rate=20, relations_every=12, duration=150, seed=2026)
    assert [line(timed) for timed in recipe.messages()] == SAMPLE.read_bytes().splitlines(keepends=True)


def test_the_shipped_sample_has_moved_and_late_relations() -> None:
    parts = [part for timed in read(SAMPLE) for part in Classifier().parts(timed.message)]
    lists = [part.records for part in parts if isinstance(part, Relations)]
    keys = [key for records in lists for key, _ in records]
    assert len(lists) > 10
    assert len(set(keys)) < len(keys)
    assert sum(part.count for part in parts if isinstance(part, Communications)) == 3000
    assert measure(SAMPLE).seconds == 150
