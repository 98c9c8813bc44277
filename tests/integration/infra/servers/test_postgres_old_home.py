"""A home that an earlier weir left open to everybody: closed at the next start, without a loss, however often that is

killed.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.servers.stranger import ROOT, tried
from support.wait import PATIENCE_S
from weir.consumers.analytics.days import DailyQuery
from weir.consumers.analytics.repository import AnalyticsRepository, UnknownTenantError
from weir.consumers.analytics.rows import Scope
from weir.infra import postgres
from weir.infra.config import Config, load
from weir.infra.ports import free_ports
from weir.infra.servers.postgres import PostgresServer
from weir.infra.servers.postgres_programs import installed, shared
from weir.infra.servers.server import running
from weir.infra.supervisor.processes import Process, end, spawn

QUERY = DailyQuery(None, dt.date(2026, 1, 1), dt.date(2027, 1, 1), 10)


@pytest.fixture
def own(tmp_path: Path) -> Config:
    """The configuration of a Postgres of the test's own, in a home that is not there yet."""
    [port] = free_ports(1)
    return load({"WEIR_HOME": str(tmp_path / "home"), "WEIR_POSTGRES_PORT": str(port)})


@contextmanager
def in_the_open(config: Config) -> Iterator[str]:
    """A Postgres as weir ran it before it had a password: everybody may log in, as the superuser. Gives its address."""
    folder, log = config.home / "postgres", config.home / "logs" / "postgres.log"
    process = old_program(config, log, "postgres", f"--port={config.postgres.port}", "--unix_socket_directories=")
    address = f"postgresql://postgres@127.0.0.1:{config.postgres.port}/"
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (folder / "postmaster.pid").exists() or b"ready" not in (folder / "postmaster.pid").read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            threading.Event().wait(0.05)
        yield address
    finally:
        end({process: signal.SIGINT}, seconds=30)


def old_program(config: Config, log: Path, program: str, *options: str) -> Process:
    folder = config.home / "postgres"
    return spawn(
        [(shared() if ROOT else installed()) / program, *options, "-D", "/proc/self/cwd"],
        user="nobody" if ROOT else None, cwd=folder, log=log,
    )  # fmt: skip


#: What a user may have made beside weir's tables, as the superuser that everybody was.
BESIDE = """
CREATE SCHEMA reports;
CREATE TYPE reports.colour AS ENUM ('red', 'green');
CREATE DOMAIN reports.positive AS int CHECK (VALUE > 0);
CREATE TABLE reports.kept (id serial PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, colour reports.colour, of bytea);
INSERT INTO reports.kept (colour, of) SELECT 'red', sha256(i::text::bytea) FROM generate_series(1, 1000) AS i;
CREATE VIEW reports.reds AS SELECT * FROM reports.kept WHERE colour = 'red';
CREATE MATERIALIZED VIEW reports.counted AS SELECT colour, count(*) FROM reports.kept GROUP BY colour;
CREATE SEQUENCE reports."Numbers";
CREATE FUNCTION reports.twice(x int) RETURNS int LANGUAGE sql RETURN 2 * x;
CREATE PROCEDURE reports.nothing() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE reports.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE AGGREGATE reports.middle(float8 ORDER BY anyelement) (
    SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA
);
CREATE STATISTICS reports.both ON id, n FROM reports.kept;
CREATE EXTENSION vector;
CREATE TEMPORARY TABLE gone (x int)
"""
SUMS = "SELECT (SELECT array_agg(t ORDER BY id)::text FROM reports.kept t), (SELECT array_agg(t)::text FROM tenants t)"
#: Of the objects that were made in this database, those that belong to another than the services' role.
ELSEWHOSE = """
SELECT relname FROM pg_class c WHERE oid >= 16384 AND relowner <> 'weir'::regrole
AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND deptype = 'e')
AND relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg\\_t%temp%')
UNION ALL SELECT nspname FROM pg_namespace
WHERE oid >= 16384 AND nspowner <> 'weir'::regrole AND nspname NOT LIKE 'pg\\_%'
UNION ALL SELECT proname FROM pg_proc p WHERE oid >= 16384 AND proowner <> 'weir'::regrole
AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
UNION ALL SELECT typname FROM pg_type t WHERE oid >= 16384 AND typowner <> 'weir'::regrole AND typtype <> 'c'
AND typelem = 0 AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = t.oid AND deptype = 'e')
UNION ALL SELECT stxname FROM pg_statistic_ext WHERE stxowner <> 'weir'::regrole
"""


@pytest.fixture
def old(own: Config) -> tuple[Config, Any]:
    """A home as an earlier weir left it, open to everybody, with data in it; and what the data comes to."""
    home = own.home
    (home / "logs").mkdir(parents=True)
    home.chmod(0o755)
    (home / "postgres").mkdir(mode=0o700)
    if ROOT:
        shutil.chown(home / "postgres", "nobody", "nogroup")
    made = old_program(
        own, home / "logs" / "postgres.log", "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8",
        "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-sync",
    )  # fmt: skip
    assert made.wait(PATIENCE_S) == 0, (home / "logs" / "postgres.log").read_text()
    with in_the_open(own) as address:
        with psycopg.connect(f"{address}postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE weir")
        postgres.migrate(own.replace(WEIR_POSTGRES=f"{address}weir"))
        with psycopg.connect(f"{address}weir", autocommit=True) as connection:
            connection.execute("INSERT INTO tenants (id, plan) VALUES (1, 'free'), (2, 'enterprise')")
            connection.execute(BESIDE)
            return own, connection.execute(SUMS).fetchall()


def check_closed(config: Config, sums: Any) -> None:
    """Nothing of an old home is lost, nobody gets in without the password, and weir works on with fewer rights."""
    assert "trust" not in (config.home / "postgres" / "pg_hba.conf").read_text()
    assert config.home.stat().st_mode & 0o777 == 0o700
    assert tried(config)["logins"] == []
    assert postgres.migrate(config) == []
    with postgres.connect(config, "test") as connection:
        assert connection.execute(SUMS).fetchall() == sums
        assert connection.execute(ELSEWHOSE).fetchall() == []
        connection.execute("INSERT INTO reports.kept (colour) VALUES ('green')")
        connection.execute("ALTER TABLE reports.kept ADD COLUMN more int")
        connection.execute("DROP SCHEMA reports CASCADE")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("COPY tenants TO PROGRAM 'cat'")

    async def tenants_of(scope: Scope) -> None:
        repository = AnalyticsRepository(config)
        await repository.open()
        try:
            await repository.check()
            with pytest.raises(UnknownTenantError):
                await repository.tenant_daily(scope, 2, QUERY)
            assert (await repository.tenant_daily(scope, 1, QUERY)).rows == []
        finally:
            await repository.close()

    asyncio.run(tenants_of(Scope.of(1)))


def test_an_old_home_is_closed_at_the_next_start_and_nothing_of_it_is_lost(old: tuple[Config, Any]) -> None:
    config, sums = old
    with running(PostgresServer(config)):
        check_closed(config, sums)
    before = (config.home / "postgres" / "pg_hba.conf").stat().st_mtime_ns, config.postgres_passfile.read_text()
    with running(PostgresServer(config)):
        postgres.connect(config, "test").close()
    assert before == (
        (config.home / "postgres" / "pg_hba.conf").stat().st_mtime_ns,
        config.postgres_passfile.read_text(),
    )


#: Upgrades the home, with a word before and one after.
UPGRADE = """
import os
from weir.infra.config import load
from weir.infra.servers.postgres import PostgresServer
server = PostgresServer(load(os.environ))
print("begun", flush=True)
server.prepare()
print("done", flush=True)
"""


@contextmanager
def upgrading(config: Config) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has begun to upgrade the home."""
    environ = {"WEIR_HOME": str(config.home), "WEIR_POSTGRES_PORT": str(config.postgres.port)}
    with subprocess.Popen([sys.executable, "-c", UPGRADE], env=environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield process


@pytest.mark.parametrize("kills", [3, pytest.param(24, marks=pytest.mark.long)])
def test_the_upgrade_can_be_killed_at_any_moment(old: tuple[Config, Any], kills: int) -> None:
    config, sums = old
    kept = config.home.with_name("kept")
    subprocess.run(["cp", "-a", config.home, kept], check=True)
    with upgrading(config) as process:
        begun = time.monotonic()
        assert process.wait(PATIENCE_S) == 0
        length = time.monotonic() - begun
    for number in range(kills):
        shutil.rmtree(config.home)
        subprocess.run(["cp", "-a", kept, config.home], check=True)
        for fraction in (number / kills, 1 - number / kills):  # the second goes on from where the first was killed
            with upgrading(config) as process:
                threading.Event().wait(length * fraction)
                process.kill()
        with running(PostgresServer(config)):
            check_closed(config, sums)
