"""The queries of a table: paths, parameters, keys of the wrong length; and which client ids are addresses."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.infra.config import Config, load
from weir.infra.errors import ConfigError
from weir.infra.kafka.worker_directory import Member, client_id
from weir.infra.runtime.single_flight import SingleFlight
from weir.schemas.topics import COMMUNICATIONS, LINK_COUNTS, LINKS_PARTIALS
from weir.streams.api import TumblingWindows, Windowed
from weir.streams.engine.queries.requests import BadRequestError, TableQuery, check, parse, select_cells, shown
from weir.streams.engine.windowed.merge_base import WindowCell
from weir.streams.jobs import links


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_any_key_can_be_written_in_a_path(key: list[str]) -> None:
    path = "/tables/link-counts/" + "/".join(quote(part, safe="") for part in key)
    assert parse(path, []) == TableQuery("link-counts", tuple(key))


def test_a_window_is_asked_for_by_its_start() -> None:
    assert parse("/tables/t/k", [("window", "1970-01-01T01:01:00+01:00")]).window == 60_000


@pytest.mark.parametrize(
    ("path", "parameters", "field"),
    [
        ("/tables/t", [], "key"),
        ("/tables/t/%ff", [], "key"),
        ("/tables", [], "table"),
        ("/tables/t/k", [("window", "noon")], "window"),
        ("/tables/t/k", [("window", "1970-01-01T00:01:00")], "window"),
        ("/tables/t/k", [("window", "1970-01-01T00:01:00Z")] * 2, "window"),
        ("/tables/t/k", [("windows", "1970-01-01T00:01:00Z")], "windows"),
    ],
)
def test_what_cannot_be_used_is_named(path: str, parameters: list[tuple[str, str]], field: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        parse(path, parameters)
    assert caught.value.field == field
    assert caught.value.reason


def test_a_key_has_as_many_parts_as_the_job_says_where_it_says_so() -> None:
    windows = TumblingWindows(60_000, 0, 60_000)
    job = Windowed(name="j", source=COMMUNICATIONS, windows=windows, partials=LINKS_PARTIALS, output=LINK_COUNTS,
                   key=["source", "destination"])  # fmt: skip
    check(TableQuery("link-counts", ("a", "b")), job)
    with pytest.raises(BadRequestError) as caught:
        check(TableQuery("link-counts", ("a",)), job)
    assert str(caught.value) == "`key`: has 1 parts; a key of table link-counts has 2"
    check(TableQuery("link-counts", ("a",)), links.job(Config()))  # its keys come from a function


def test_of_the_cells_found_those_of_the_window_are_shown() -> None:
    cells = [WindowCell(60_000, 120_000, 3, False), WindowCell(0, 60_000, {"sum": 2}, True)]
    assert select_cells(cells, TableQuery("t", ("k",))) == cells
    [cell] = select_cells(cells, TableQuery("t", ("k",), 0))
    bounds = {"start": "1970-01-01T00:00:00Z", "end": "1970-01-01T00:01:00Z"}
    assert shown(cell) == {"window": bounds, "value": {"sum": 2}, "final": True}


def test_a_client_id_that_is_not_a_workers_has_no_address() -> None:
    assert Member(client_id("worker-1", 80), "h", frozenset()).address == "worker-1:80"
    assert Member("rdkafka", "h", frozenset()).address is None


def test_a_worker_is_reached_where_it_is_advertised_else_where_it_binds_else_at_its_machine() -> None:
    assert load({}).reached_at == "127.0.0.1"
    assert load({"WEIR_HOST": "10.0.0.7"}).reached_at == "10.0.0.7"
    assert load({"WEIR_HOST": "0.0.0.0"}).reached_at not in ("", "0.0.0.0")
    assert load({"WEIR_HOST": "0.0.0.0", "WEIR_ADVERTISED_HOST": "worker-1"}).reached_at == "worker-1"
    with pytest.raises(ConfigError, match="WEIR_ADVERTISED_HOST"):
        load({"WEIR_ADVERTISED_HOST": "http://worker-1:80"})


def test_a_question_is_asked_once_for_all_and_an_error_is_not_kept() -> None:
    asked: list[int] = []

    async def ask() -> int:
        asked.append(len(asked))
        await asyncio.sleep(0)
        if len(asked) == 1:
            raise ValueError
        return asked[-1]

    async def scene() -> None:
        shared = SingleFlight(ask)
        first = await asyncio.gather(*(shared.get(60) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in first] == [ValueError] * 3
        assert await asyncio.gather(*(shared.get(60) for _ in range(3))) == [1] * 3
        assert await shared.get(60) == 1
        assert await shared.get(-1) == 2

    asyncio.run(scene())
