"""The sink of tenants' events while Postgres's disk is really full: it waits, says why, and every row lands once."""

from __future__ import annotations

import os
import random
from pathlib import Path

import psycopg
import pytest

from support.command import started
from support.servers.own_servers import OwnServer, own
from support.servers.small_disks import fill_up, small_disk
from support.tenants.analytics_store_client import DAY_MS, NOON, RUN, AnalyticsStoreClient, event
from weir.infra.config import Config
from weir.infra.errors import DiskFullError, StartError
from weir.infra.ports import free_ports
from weir.infra.servers.disk_space import MIB
from weir.infra.servers.postgres import PostgresServer

#: A new Postgres wants 128 MiB to start, and takes 60 of them with its first segments of write-ahead log.
_DISK = 256 * MIB
#: Less than a segment of write-ahead log, and less than the rows that come.
_LEFT = 3 * MIB


def large_events(chance: random.Random, count: int) -> list[bytes]:
    """Events of about a kilobyte each that no compression makes smaller."""
    events = []
    for _ in range(count):
        payload = ",".join(f'"k{n}":{chance.randrange(2**62)}' for n in range(10, 60))
        events.append(
            event(
                chance.randrange(1, 9), NOON + chance.randrange(3 * DAY_MS), chance.randrange(10**7), f"{{{payload}}}"
            )
        )
    return events


def new_segment(config: Config) -> None:
    """Has Postgres begin another segment, of 16 MiB, of its write-ahead log."""
    with psycopg.connect(config.dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_switch_wal()")
        connection.execute("SELECT pg_logical_emit_message(true, 'test', 'x')")


def log_is_full(config: Config) -> bool:
    """Asks for segments until Postgres ends all sessions, for there is no room for one."""
    try:
        while True:
            new_segment(config)
    except psycopg.OperationalError:
        return True


def serves_again(config: Config, server: OwnServer) -> bool:
    """Whether it answers; started again where it has ended, as its keeper does."""
    try:
        if server.ended:
            server.start()
        psycopg.connect(config.dsn).close()
    except (StartError, psycopg.OperationalError):
        return False
    return True


@pytest.mark.long
def test_a_disk_that_is_full_is_waited_for_and_said_and_every_row_lands_once(
    environ: dict[str, str], config: Config, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    with small_disk(tmp_path / "disk", _DISK) as disk:
        embedded = config.replace(WEIR_HOME=disk / "home", WEIR_POSTGRES=None, WEIR_POSTGRES_PORT=port)
        settings = config.replace(WEIR_POSTGRES=embedded.dsn)
        postgres = PostgresServer(embedded)
        postgres.prepare()
        postgres.administer("GRANT EXECUTE ON FUNCTION pg_switch_wal() TO weir")
        with own(postgres) as server:
            probe, chance = AnalyticsStoreClient(settings, range(1, 9)), random.Random(15)
            events = large_events(chance, 500)
            with started(environ | {"WEIR_POSTGRES": embedded.dsn}, *RUN) as sink:
                probe.write(events)
                sink.wait_for(lambda: probe.count() == len(events))

                new_segment(settings)  # rows are to be what finds no room first, and not their log
                filler = fill_up(disk, _LEFT)
                probe.write(more := large_events(chance, 12_000))
                sink.wait_for(lambda: probe.state() == "waiting" and "No space left on device" in probe.error())
                assert probe.error().startswith("Postgres cannot do it now: could not ")
                assert probe.count() < len(events) + len(more)
                probe.check_days()

                # Its own recovery finds no room either, and it gives up.
                sink.wait_for(lambda: log_is_full(settings) and server.ended)
                sink.wait_for(lambda: probe.state() == "waiting" and "no Postgres answers at " in probe.error())
                assert sink.process.poll() is None
                with pytest.raises(DiskFullError, match=r"no space left on the disk .*; make room"):
                    server.start()

                # A little room, and it is there again; with enough all that has come is stored.
                os.truncate(filler, filler.stat().st_size - 48 * MIB)
                sink.wait_for(lambda: serves_again(settings, server))
                filler.unlink()
                sink.wait_for(lambda: serves_again(settings, server) and probe.count() == len(events) + len(more))
                sink.wait_for(lambda: probe.state() == "running")
            probe.check([*events, *more])
            assert probe.dead_letters() == []
