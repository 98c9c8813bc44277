"""The sink of tenants' events while things break: no row is lost or there twice, and the status says what is wrong."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import psycopg
import pytest

from support.command import started
from support.servers.own_servers import OwnServer, own
from support.tenants.analytics_store_client import RUN, AnalyticsStoreClient, event, some_events
from support.wait import until
from weir.infra import config as configuration
from weir.infra import postgres
from weir.infra.config import Config
from weir.infra.errors import PostgresUnavailableError, ServerFailedError
from weir.infra.ports import free_ports
from weir.infra.servers.postgres import PostgresServer


@contextmanager
def holding_up(config: Config) -> Iterator[psycopg.Connection]:
    """A lock that keeps everybody from writing events."""
    connection = postgres.connect(config, "test")
    connection.execute("BEGIN")
    connection.execute("LOCK TABLE events IN SHARE MODE")
    try:
        yield connection
    finally:
        connection.close()


def test_killed_again_and_again_at_any_moment_it_ends_with_the_exact_rows_and_days(
    environ: dict[str, str], config: Config
) -> None:
    probe, chance = AnalyticsStoreClient(config, range(1, 9)), random.Random(11)
    written: list[bytes] = []
    for n in range(4):
        with started(environ, *RUN) as sink:
            until(lambda: probe.state() == "running")
            for _ in range(chance.randrange(1, 4)):
                batch = some_events(chance, 4000, 8)
                probe.write(batch)
                written += batch
            if n % 2:
                with holding_up(config):
                    probe.write(batch := some_events(chance, 1000, 8))
                    written += batch
                    until(probe.storing)  # in the midst of a transaction, for certain
                    sink.process.kill()
            sink.process.kill()
            sink.process.wait()
    with started(environ, *RUN):
        until(lambda: probe.count() >= len(written))
        until(lambda: probe.offsets() == len(written))
        probe.check(written)


def test_postgres_killed_in_the_midst_of_a_batch_is_waited_for_and_every_row_lands_once(
    environ: dict[str, str], config: Config
) -> None:
    with own_postgres(environ, config) as (mine, settings, server):
        probe = AnalyticsStoreClient(settings, range(1, 9))
        events = some_events(random.Random(12), 5000, 8)
        with started(mine, *RUN):
            probe.write(events[:2000])
            until(lambda: probe.count() == 2000)
            with holding_up(settings):
                probe.write(events[2000:])
                until(probe.storing)
                server.kill()
            until(lambda: probe.state() == "waiting" and "no Postgres answers at" in probe.error())
            until(lambda: up_again(server))
            until(lambda: probe.count() == 5000)
            until(lambda: probe.state() == "running")
        probe.check(events)


def up_again(server: OwnServer) -> bool:
    """Starts it; not yet where processes of its life before are still there."""
    try:
        server.start()
    except ServerFailedError:
        return False
    return True


@pytest.mark.long
def test_killed_by_turns_with_postgres_it_ends_with_the_exact_rows_and_days(
    environ: dict[str, str], config: Config
) -> None:
    with own_postgres(environ, config) as (mine, settings, server):
        probe, chance = AnalyticsStoreClient(settings, range(1, 31)), random.Random(13)
        written: list[bytes] = []
        for _ in range(6):
            with started(mine, *RUN) as sink:
                for _ in range(3):
                    probe.write(batch := some_events(chance, chance.randrange(1, 20_000), 30, days=40))
                    written += batch
                    before = probe.count()
                    until(lambda before=before: probe.count() > before)  # type: ignore[misc]
                    server.kill()
                    until(lambda: up_again(server))
                sink.process.kill()
                sink.process.wait()
        with started(mine, *RUN):
            until(lambda: probe.count() >= len(written))
        probe.check(written)


@contextmanager
def own_postgres(environ: dict[str, str], config: Config) -> Iterator[tuple[dict[str, str], Config, OwnServer]]:
    [port] = free_ports(1)
    mine = environ | {"WEIR_POSTGRES_PORT": str(port)}
    del mine["WEIR_POSTGRES"]
    settings = config.replace(WEIR_POSTGRES=None, WEIR_POSTGRES_PORT=port)
    with own(PostgresServer(settings)) as server:
        yield mine, settings, server


def test_a_paused_sink_that_comes_back_adds_nothing_and_stands_by(environ: dict[str, str], config: Config) -> None:
    elsewhere = environ | {"WEIR_HOME": environ["WEIR_HOME"] + "-2"}
    probe = AnalyticsStoreClient(config, [1])
    second = AnalyticsStoreClient(configuration.load({k: v for k, v in elsewhere.items() if k.startswith("WEIR_")}))
    events = some_events(random.Random(14), 1000, 1)
    with started(environ, *RUN) as zombie:
        until(lambda: probe.state() == "running")
        with holding_up(config):
            probe.write(events)
            until(probe.storing)
            zombie.process.send_signal(signal.SIGSTOP)
            # What the server does by itself after ten seconds of silence.
            [paused] = probe.sessions()
            probe.ask("SELECT pg_terminate_backend(%s)", paused)
        with started(elsewhere, *RUN):
            until(lambda: probe.count() == 1000)
            zombie.process.send_signal(signal.SIGCONT)
            until(lambda: "another analytics-store is at work" in probe.error())
            until(lambda: second.state() == "running")
            probe.check(events)


def test_a_lock_that_others_hold_is_waited_for_and_said(environ: dict[str, str], config: Config) -> None:
    probe = AnalyticsStoreClient(config, [1])
    with started(environ, *RUN):
        until(lambda: probe.state() == "running")
        with holding_up(config):
            probe.write([event()])
            until(lambda: probe.state() == "waiting" and "lock timeout" in probe.error())
        until(lambda: probe.count() == 1)
        until(lambda: probe.state() == "running")
    probe.check([event()])


def test_a_read_only_postgres_is_waited_for_and_said(environ: dict[str, str], config: Config) -> None:
    with own_postgres(environ, config) as (mine, settings, _):
        probe = AnalyticsStoreClient(settings, [1])
        with psycopg.connect(settings.dsn, autocommit=True) as owner:
            owner.execute("ALTER DATABASE weir SET default_transaction_read_only = on")
            with started(mine, *RUN):
                probe.write([event()])
                until(lambda: probe.state() == "waiting" and "read-only" in probe.error())
                owner.execute("SET default_transaction_read_only = off")
                owner.execute("ALTER DATABASE weir RESET default_transaction_read_only")
                until(lambda: probe.count() == 1)
        probe.check([event()])


def fill_up(others: ExitStack, config: Config) -> None:
    """Opens connections until there are no more."""
    for _ in range(1000):
        try:
            others.enter_context(psycopg.connect(config.dsn))
        except psycopg.OperationalError as e:
            assert "too many clients" in str(e)  # noqa: PT017
            return
    pytest.fail("a thousand connections are not enough")


def test_out_of_connections_is_waited_for_and_said(environ: dict[str, str], config: Config) -> None:
    with own_postgres(environ, config) as (mine, settings, _):
        probe = AnalyticsStoreClient(settings, [1])
        probe.write([event()])
        with ExitStack() as others:
            fill_up(others, settings)
            with started(mine, *RUN):
                until(lambda: probe.state() == "waiting" and "too many clients" in probe.error())
                others.close()
                until(lambda: probe.count() == 1)
        probe.check([event()])


def test_a_migration_that_fails_half_way_leaves_nothing_and_is_done_again(config: Config) -> None:
    steps = postgres.migrations()
    third = next(step for step in steps if step.number == 3)
    broken = replace(third, sql=third.sql + "\nSELECT 1/0;")
    with pytest.raises(Exception, match="division by zero"):
        postgres.migrate(config, [step for step in steps if step.number < 3] + [broken])
    with postgres.connect(config, "test") as connection:
        assert connection.execute("SELECT to_regclass('tenants'), max(number) FROM weir_migrations").fetchone() == (
            None, 2,
        )  # fmt: skip
        # One that is held up: whoever is later waits for the one at work.
        connection.execute("SELECT pg_advisory_lock(%s)", [0x77656972])
        with pytest.raises(PostgresUnavailableError):
            postgres.migrate(config.replace(WEIR_POSTGRES=f"{config.dsn}%20-cstatement_timeout%3D300"))
    assert next(step.number for step in postgres.migrate(config)) == 3
    assert postgres.migrate(config) == []
