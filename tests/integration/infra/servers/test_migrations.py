"""The schema in Postgres: made once, by one, whole or not at all, and never from files that changed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from weir.consumers.registry import tables as tables_of_sinks
from weir.infra.config import Config
from weir.infra.errors import PostgresUnavailableError, WeirError
from weir.infra.ports import free_ports
from weir.infra.postgres import Migration, connect, migrate, migrations

ONE = Migration(1, "one", "CREATE TABLE one (a int); INSERT INTO one VALUES (1);")
TWO = Migration(2, "two", "CREATE TABLE two (a int);")


@pytest.fixture
def connection(config: Config) -> Iterator[psycopg.Connection]:
    with connect(config, "test") as connection:
        yield connection


def tables(connection: psycopg.Connection) -> set[str]:
    query = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
    return {name for (name,) in connection.execute(query).fetchall()}


def test_an_empty_schema_gets_every_table_in_its_search_path_and_the_second_time_nothing(
    config: Config, connection: psycopg.Connection
) -> None:
    assert migrate(config) == migrations()
    assert {"link_counts", "link_windows", "closed_windows", "sink_offsets", "weir_migrations"} <= tables(connection)
    recorded = connection.execute("SELECT number, name, checksum FROM weir_migrations ORDER BY number").fetchall()
    assert recorded == [(step.number, step.name, step.checksum) for step in migrations()]
    assert migrate(config) == []


def test_the_numbers_are_one_to_n_without_gaps() -> None:
    assert [step.number for step in migrations()] == list(range(1, len(migrations()) + 1))


def test_only_what_is_new_is_applied(config: Config, connection: psycopg.Connection) -> None:
    assert migrate(config, [ONE]) == [ONE]
    assert migrate(config, [ONE, TWO]) == [TWO]
    assert connection.execute("SELECT a FROM one").fetchall() == [(1,)]


def test_many_at_once_apply_each_step_once(config: Config, connection: psycopg.Connection) -> None:
    with ThreadPoolExecutor(4) as pool:
        applied = [step for steps in pool.map(lambda _: migrate(config, [ONE, TWO]), range(4)) for step in steps]
    assert sorted(step.number for step in applied) == [1, 2]
    assert connection.execute("SELECT a FROM one").fetchall() == [(1,)]


def test_a_step_that_was_applied_and_changed_since_is_refused(config: Config, connection: psycopg.Connection) -> None:
    migrate(config, [ONE])
    with pytest.raises(WeirError, match="0001_one differs from the one applied"):
        migrate(config, [replace(ONE, sql=ONE.sql + " "), TWO])
    assert "two" not in tables(connection)


def test_a_database_of_a_newer_weir_is_refused(config: Config) -> None:
    migrate(config, [ONE, TWO])
    with pytest.raises(WeirError, match="0002_two, applied by a newer weir"):
        migrate(config, [ONE])


def test_a_step_that_fails_leaves_nothing_and_the_ones_before_it_stay(
    config: Config, connection: psycopg.Connection
) -> None:
    broken = Migration(2, "broken", "CREATE TABLE two (a int); SELECT nonsense;")
    with pytest.raises(WeirError, match="nonsense"):
        migrate(config, [ONE, broken])
    assert "one" in tables(connection)
    assert "two" not in tables(connection)
    assert migrate(config, [ONE, TWO]) == [TWO]


def test_a_postgres_that_is_not_there_is_said_in_one_line(config: Config) -> None:
    [port] = free_ports(1)
    with pytest.raises(PostgresUnavailableError, match=r"^no Postgres answers at 127\.0\.0\.1:\d+$"):
        migrate(config.replace(WEIR_POSTGRES=f"postgresql://postgres@127.0.0.1:{port}/weir"))


def test_an_address_that_is_none_is_refused_without_showing_it(config: Config) -> None:
    with pytest.raises(WeirError, match="WEIR_POSTGRES must be") as caught:
        migrate(config.replace(WEIR_POSTGRES="postgresql://user:secret@[/weir"))
    assert "secret" not in str(caught.value)


DECLARED = {
    declared.name: declared
    for tables in tables_of_sinks(Config()).values()
    for table in tables
    for declared in (table, *table.rollups)
}


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_what_a_sink_declares_is_what_the_migrations_make(
    config: Config, connection: psycopg.Connection, name: str
) -> None:
    migrate(config)
    declared = DECLARED[name]
    made = connection.execute(
        "SELECT attname, atttypid, attnotnull AND NOT atthasdef AND attidentity = ''"
        " FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
        [name],
    ).fetchall()
    types = connection.execute(
        "SELECT name, type::regtype::oid FROM unnest(%s::text[], %s::text[]) AS declared (name, type)",
        [list(declared.columns), list(declared.columns.values())],
    ).fetchall()
    assert set(types) <= {(column, kind) for column, kind, _ in made}
    drawn = {"stamp"}  # by a trigger
    assert {column for column, _, must in made if must} - drawn <= set(declared.columns)
    keys = connection.execute(
        "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)"
        " WHERE indrelid = %s::regclass AND indisprimary",
        [name],
    ).fetchall()
    assert {column for (column,) in keys} == set(declared.key)
