"""A Postgres of one's own, whose user is no superuser: the role weir_reader is made, given, or asked for in words."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from weir.consumers.analytics.repository import AnalyticsRepository
from weir.consumers.analytics.sql import query
from weir.consumers.sinks.partitions import ensure_months, months
from weir.infra import postgres
from weir.infra.config import Config
from weir.infra.errors import PostgresUnavailableError
from weir.infra.postgres import Migration

JANUARY, FEBRUARY = dt.date(2026, 1, 1), dt.date(2026, 2, 1)
SCOPE = {"scope": "*", "timeout_ms": "5000"}


class Server:
    """The server as its superuser sees it. `reader` stands for weir_reader, of which a server has one."""

    def __init__(self, config: Config, connection: psycopg.Connection, schema: str) -> None:
        self._config = config
        self._connection = connection
        self._schema = schema
        self._users: list[str] = []
        self.reader = f"weir_reader_{uuid.uuid4().hex[:8]}"

    def execute(self, text: str, *names: str) -> None:
        self._connection.execute(sql.SQL(text).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]

    def user(self, rights: str = "NOCREATEROLE") -> tuple[str, Config]:
        """A user who owns the test's schema, and the configuration with which weir is that user."""
        name = f"test_{uuid.uuid4().hex[:8]}"
        self.execute(f"CREATE ROLE {{}} LOGIN {rights} PASSWORD 'secret'", name)
        self._users.append(name)
        self.execute("ALTER SCHEMA {} OWNER TO {}", self._schema, name)
        return name, self._config.replace(WEIR_POSTGRES=make_conninfo(self._config.dsn, user=name, password="secret"))

    def steps(self) -> list[Migration]:
        """The migrations, with a role of the test's own."""
        return [replace(step, sql=step.sql.replace("weir_reader", self.reader)) for step in postgres.migrations()]

    def ask(self, config: Config) -> None:
        """A question, as the API begins it."""
        with postgres.connect(config, "test") as connection, postgres.translated(), connection.transaction():
            connection.execute(query("scope").replace(b"weir_reader", self.reader.encode()), SCOPE)
            assert connection.execute("SELECT count(*) FROM tenants").fetchone() == (0,)

    def clear(self) -> None:
        if self._connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [self.reader]).fetchone() is not None:
            self.execute("DROP OWNED BY {}", self.reader)
            self.execute("DROP ROLE {}", self.reader)
        for name in self._users:
            self.execute("REASSIGN OWNED BY {} TO CURRENT_USER", name)
            self.execute("DROP OWNED BY {}", name)
            self.execute("DROP ROLE {}", name)


@pytest.fixture
def server(config: Config, administrator: str, schema: str) -> Iterator[Server]:
    with psycopg.connect(administrator, autocommit=True) as connection:
        made = Server(config, connection, schema)
        yield made
        made.clear()


def test_a_user_who_may_make_roles_makes_the_reader_and_may_use_it(server: Server) -> None:
    _, config = server.user("CREATEROLE")
    assert len(postgres.migrate(config, server.steps())) == len(postgres.migrations())
    server.ask(config)


@pytest.mark.parametrize("rights", ["CREATEROLE", "NOCREATEROLE"])
def test_a_reader_that_another_has_made_must_be_granted_and_until_then_only_questions_fail(
    server: Server, rights: str, capfd: pytest.CaptureFixture[str]
) -> None:
    server.execute("CREATE ROLE {}", server.reader)
    name, config = server.user(rights)
    assert len(postgres.migrate(config, server.steps())) == len(postgres.migrations())
    assert f"an administrator must run: GRANT {server.reader} TO {name}" in "".join(capfd.readouterr())
    with postgres.connect(config, "test") as connection:
        assert len(ensure_months(connection, [JANUARY])) == 1
    with pytest.raises(PostgresUnavailableError, match="an administrator must run: GRANT weir_reader TO"):
        server.ask(config)
    server.execute("GRANT {} TO {}", server.reader, name)
    server.ask(config)


def test_with_no_reader_and_no_right_to_make_one_the_migration_says_what_to_run_and_works_after_it(
    server: Server,
) -> None:
    name, config = server.user()
    with pytest.raises(PostgresUnavailableError, match=f"may not make .* CREATE ROLE .*; GRANT .* TO {name}"):
        postgres.migrate(config, server.steps())
    server.execute("CREATE ROLE {}", server.reader)
    server.execute("GRANT {} TO {}", server.reader, name)
    assert postgres.migrate(config, server.steps())
    server.ask(config)


def test_the_repository_waits_for_the_grant(config: Config, server: Server) -> None:
    postgres.migrate(config)  # weir_reader is there from here on, made by another
    name, own = server.user()

    async def check() -> None:
        repository = AnalyticsRepository(own)
        await repository.open()
        try:
            await repository.check()
        finally:
            await repository.close()

    with pytest.raises(PostgresUnavailableError, match="GRANT weir_reader TO"):
        asyncio.run(check())
    server.execute("GRANT weir_reader TO {}", name)
    asyncio.run(check())


#: Of the user: none is as weir reads them.
FORMS = {"DateStyle": "German, DMY", "IntervalStyle": "iso_8601", "extra_float_digits": "-5", "TimeZone": "Asia/Tokyo"}


def test_the_users_own_forms_of_times_and_numbers_change_nothing(server: Server) -> None:
    name, config = server.user("CREATEROLE")
    for setting, value in FORMS.items():
        server.execute(f"ALTER ROLE {{}} SET {setting} = '{value}'", name)
    postgres.migrate(config, server.steps())
    with postgres.connect(config, "test") as connection:
        assert len(ensure_months(connection, [JANUARY, FEBRUARY])) == 2
        assert months(connection) == {JANUARY, FEBRUARY}
        assert ensure_months(connection, [JANUARY]) == []
        row = connection.execute("SELECT (0.1::float8 + 0.2::float8)::text, '1 day'::interval::text").fetchone()
        assert row == ("0.30000000000000004", "1 day")
