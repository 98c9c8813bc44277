"""`weir archive` on a real Postgres: every event is in one place at every moment, whatever comes between."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command import at_a_terminal, json_lines, weir
from support.tenants.archived_events import FEBRUARY, JANUARY, Events, Moving, events_of, lying_in, move, named_in
from support.wait import PATIENCE_S
from weir.consumers.archive.archiver import STEPS, ArchiveBusyError, Archiver
from weir.consumers.archive.months import start
from weir.consumers.archive.reader import ArchiveReader
from weir.consumers.sinks.partitions import partition
from weir.infra.config import Config

NOW = dt.datetime.now(dt.UTC)
THIS_MONTH = NOW.date().replace(day=1)
MARCH_MS = int(start(dt.date(2023, 3, 1)).timestamp() * 1000)


@pytest.fixture
def events(config: Config) -> Iterator[Events]:
    with events_of(config) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cold storage"


def archive(environ: dict[str, str], folder: Path, *more: str) -> subprocess.CompletedProcess[bytes]:
    return weir(environ, "archive", "--older-than", "1y", "--to", f"file://{folder}", "--yes", *more)


def test_old_months_go_and_every_event_is_in_the_files(environ: dict[str, str], events: Events, folder: Path) -> None:
    for month in (JANUARY, FEBRUARY, THIS_MONTH):
        events.fill(month)
    events.add_month(dt.date(2022, 12, 1))  # an empty one goes, too
    before = events.in_postgres()
    done = archive(environ, folder)
    assert done.returncode == 0, done
    assert [line.split()[:4] for line in done.stdout.decode().splitlines()] == [
        ["events_202212:", "0", "rows", "in"],
        ["events_202301:", "3,000", "rows", "in"],
        ["events_202302:", "3,000", "rows", "in"],
    ]
    assert events.partitions() == {f"events_{THIS_MONTH:%Y%m}"}
    assert sum(events.archived().values()) == 6000
    assert events.everywhere() == before
    assert events.states() == [(JANUARY, 1, "complete"), (FEBRUARY, 1, "complete")]
    assert lying_in(folder) == named_in(events.files())
    again = archive(environ, folder)
    assert (again.returncode, again.stdout[:31]) == (0, b"no month of events ended before")


def test_what_a_tenants_days_come_to_stays(config: Config, events: Events, folder: Path) -> None:
    events.fill(JANUARY)
    events.connection.execute("INSERT INTO tenants (id, plan) VALUES (1, 'pro')")
    events.connection.execute("INSERT INTO tenant_daily VALUES (1, '2023-01-01', 1, 1, 1, 1, '')")
    move(config, folder, JANUARY)
    assert events.connection.execute("SELECT count(*) FROM tenant_daily").fetchone() == (1,)


def test_a_tenants_events_are_in_one_file(config: Config, events: Events, folder: Path) -> None:
    events.fill(JANUARY, rows=2000, tenants=20)
    before = events.in_postgres()
    with Archiver(config, f"file://{folder}", file_rows=500) as archiver:
        archiver.archive(JANUARY)
    files = events.files()
    assert len(files) > 3
    assert all(a.last_tenant < b.first_tenant for a, b in itertools.pairwise(files))
    assert events.archived() == before


def test_list_and_query_show_what_is_archived(
    environ: dict[str, str], config: Config, events: Events, folder: Path
) -> None:
    events.fill(JANUARY)
    events.fill(FEBRUARY)
    before = sorted(row for row in events.in_postgres() if row[0] == 2)
    move(config, folder, JANUARY, FEBRUARY)
    listed = [line.split("\t") for line in weir(environ, "archive", "list").stdout.decode().splitlines()]
    assert [row[:5] for row in listed] == [[month, "1", "complete", "3000", "1"] for month in ("2023-01", "2023-02")]
    shown = json_lines(weir(environ, "archive", "query", "--tenant", "2", "--limit", "5").stdout)
    assert [(row["id"], row["processing_time"], row["payload"]) for row in shown] == [
        (row[2], row[3], row[5]) for row in before[:5]
    ]
    assert [row["created_at"] for row in shown] == [row[1].replace(tzinfo=None).isoformat() + "Z" for row in before[:5]]
    between = ["--from", "2023-01-20T00:00:00Z", "--to", "2023-02-02T00:00:00Z", "--type", "type-3"]
    found = json_lines(weir(environ, "archive", "query", "--tenant", "2", *between).stdout)
    edges = [dt.datetime(2023, 1, 20, tzinfo=dt.UTC), dt.datetime(2023, 2, 2, tzinfo=dt.UTC)]
    wanted = [row[2] for row in before if edges[0] <= row[1] < edges[1] and row[4] == "type-3"]
    assert [row["id"] for row in found] == wanted[:100]
    assert wanted
    query = "SELECT count(*) AS n, sum((payload->>'$.n')::bigint) AS s FROM events WHERE tenant_id = 2"
    [total] = json_lines(weir(environ, "archive", "query", "--sql", query).stdout)
    assert total["n"] == len(before)
    assert int(total["s"]) == sum(json.loads(row[5])["n"] for row in before if row[5] is not None)
    query = "SELECT min(created_at) AS first, [max(created_at)] AS last FROM events WHERE tenant_id = 2; -- é"
    edges = [row[1].replace(tzinfo=None).isoformat() + "Z" for row in (before[0], before[-1])]
    assert json_lines(weir(environ | without("pytz", folder.parent), "archive", "query", "--sql", query).stdout) == [
        {"first": edges[0], "last": [edges[1]]}
    ]
    refused = weir(environ, "archive", "query", "--sql", "SELECT * FROM read_text('/etc/hostname')")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"file system operations are disabled" in refused.stderr
    assert refused.stderr.count(b"\n") == 1


def without(module: str, folder: Path) -> dict[str, str]:
    """The variable that has a process find the module broken, as if it were not there."""
    (folder / f"{module}.py").write_text(f"raise ImportError('no {module}')")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize("step", ["begun", "file", "written", "read-back", "verified"])
def test_an_event_that_comes_late_meanwhile_is_archived_with_the_others(
    config: Config, events: Events, folder: Path, step: str
) -> None:
    events.fill(JANUARY)
    times = iter([True])

    def late(reached: str) -> None:
        if reached == step and next(times, False):
            events.late(JANUARY)

    with Archiver(config, f"file://{folder}", late) as archiver:
        done = archiver.archive(JANUARY)
    assert done.rows == 3001
    assert events.partitions() == set()
    assert len(events.archived()) == sum(events.archived().values()) == 3001
    assert lying_in(folder) == named_in(events.files())


def test_a_month_that_changes_all_the_time_stays_in_postgres(config: Config, events: Events, folder: Path) -> None:
    events.fill(JANUARY)
    with (
        Archiver(config, f"file://{folder}", lambda step: step == "verified" and events.late(JANUARY)) as archiver,
        pytest.raises(ArchiveBusyError, match="events_202301 got late events 3 times"),
    ):
        archiver.archive(JANUARY)
    assert sum(events.in_postgres().values()) == 3003
    assert (events.states(), lying_in(folder)) == ([], set())


def test_events_of_a_month_that_is_archived_are_its_next_part(config: Config, events: Events, folder: Path) -> None:
    events.fill(JANUARY)
    move(config, folder, JANUARY)
    events.late(JANUARY)
    before = events.everywhere()
    assert sum(before.values()) == 3001
    move(config, folder, JANUARY)
    assert events.states() == [(JANUARY, 1, "complete"), (JANUARY, 2, "complete")]
    assert events.archived() == before
    assert ArchiveReader(config).months(events.connection) == [JANUARY]


def test_a_second_one_says_that_the_first_is_at_work(
    environ: dict[str, str], config: Config, events: Events, folder: Path
) -> None:
    events.fill(JANUARY)
    with Archiver(config, f"file://{folder}"):
        done = archive(environ, folder)
    assert (done.returncode, done.stderr) == (1, b"weir: Another `weir archive` is at work.\n")


def test_it_waits_for_a_long_question_and_says_so_where_that_does_not_end(
    config: Config, events: Events, folder: Path
) -> None:
    events.fill(JANUARY)
    with Archiver(config, f"file://{folder}", patience_s=0.0) as archiver:
        with events.connection.transaction():
            events.connection.execute("SELECT FROM events LIMIT 1")
            with pytest.raises(ArchiveBusyError, match="events_202301 is written and verified, but others use events"):
                archiver.archive(JANUARY)
        assert events.states() == [(JANUARY, 1, "verified")]
        assert sum(events.in_postgres().values()) == 3000
        written = lying_in(folder)
        archiver.archive(JANUARY)
    assert lying_in(folder) == written == named_in(events.files())


def test_a_reader_sees_every_event_once_at_every_moment(config: Config, events: Events, folder: Path) -> None:
    events.fill(JANUARY)
    events.fill(FEBRUARY)
    ids = sorted(row[2] for row in events.in_postgres() if row[0] == 2)
    seen: list[list[int]] = []
    reader = ArchiveReader(config)
    moving = Moving(config, folder, JANUARY, FEBRUARY)
    moving.start()
    try:
        for _ in moving.looks():
            with events.connection.transaction():
                stored = events.connection.execute("SELECT id FROM events WHERE tenant_id = 2").fetchall()
                cold = reader.events(2, 0, MARCH_MS, 10_000)
            seen.append(sorted([row[0] for row in stored] + [row[2] for row in cold]))
    finally:
        moving.join(PATIENCE_S)
        reader.close()
    assert all(found == ids for found in seen)
    assert events.partitions() == set()


@pytest.mark.parametrize("step", [step for step in STEPS if step not in ("discard", "empty")])
def test_after_a_crash_at_any_step_every_event_is_there_once(
    environ: dict[str, str], config: Config, events: Events, folder: Path, step: str
) -> None:
    events.fill(JANUARY)
    events.fill(FEBRUARY)
    before = events.in_postgres()
    assert archive(environ, folder, "--crash-at", step).returncode == 86
    assert events.everywhere() == before
    events.late(FEBRUARY)
    before = events.everywhere()
    if step in ("begun", "file", "written"):  # and once more, while it clears away
        assert archive(environ, folder, "--crash-at", "discard").returncode == 86
        assert events.everywhere() == before
    move(config, folder, *(month for month in (JANUARY, FEBRUARY) if partition(month) in events.partitions()))
    assert events.partitions() == set()
    assert events.archived() == before
    assert {state for *_, state in events.states()} == {"complete"}
    assert lying_in(folder) == named_in(events.files())


def test_what_was_verified_and_lost_since_is_written_again(
    environ: dict[str, str], config: Config, events: Events, folder: Path
) -> None:
    events.fill(JANUARY)
    before = events.in_postgres()
    assert archive(environ, folder, "--crash-at", "verified").returncode == 86
    for file in lying_in(folder):
        Path(file).unlink()
    move(config, folder, JANUARY)
    assert events.archived() == before


def test_what_is_moved_is_shown_and_asked_about(environ: dict[str, str], events: Events, folder: Path) -> None:
    events.fill(JANUARY)
    arguments = ["archive", "--older-than", "1y", "--to", f"file://{folder}"]
    done = weir(environ, *arguments)
    assert (done.returncode, done.stdout) == (1, b"")
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("events_202301: ")
    assert lines[0].endswith(" bytes in Postgres")
    assert lines[1:] == ["weir: nothing was archived: there is no terminal to confirm at, so add --yes"]
    for answer, left in ((b"n\n", 3000), (b"y\n", 0)):
        assert at_a_terminal(environ, answer, *arguments) == (answer == b"n\n")
        assert sum(events.in_postgres().values()) == left


def test_a_partition_that_is_not_one_month_is_named_and_left(
    environ: dict[str, str], events: Events, folder: Path
) -> None:
    bounds = "FOR VALUES FROM ('2023-01-02 00:00:00+00') TO ('2023-02-01 00:00:00+00')"
    events.connection.execute(f"CREATE TABLE events_202301 PARTITION OF events {bounds}")
    events.connection.execute("CREATE TABLE rest PARTITION OF events DEFAULT")
    events.fill(FEBRUARY)
    done = archive(environ, folder)
    assert (done.returncode, done.stdout[:28]) == (1, b"events_202302: 3,000 rows in")
    said = f"weir: events_202301 is not the partition of one month, it is {bounds}\n"
    assert done.stderr.decode().endswith(said)
    assert events.partitions() == {"events_202301", "rest"}


def test_a_partition_is_known_by_its_bounds_whatever_its_name(
    environ: dict[str, str], events: Events, folder: Path
) -> None:
    events.fill(JANUARY)
    events.connection.execute("ALTER TABLE events_202301 RENAME TO events_202301_2")
    events.connection.execute("CREATE TABLE events_202301 (LIKE events)")  # what was taken off is not touched
    events.connection.execute("INSERT INTO events_202301 SELECT * FROM events LIMIT 1")
    before = events.in_postgres()
    done = archive(environ, folder)
    assert (done.returncode, done.stdout[:30]) == (0, b"events_202301_2: 3,000 rows in")
    assert events.partitions() == set()
    assert events.archived() == before
    assert events.connection.execute("SELECT count(*) FROM events_202301").fetchone() == (1,)


def test_an_empty_partition_that_gets_an_event_meanwhile_is_archived(
    config: Config, events: Events, folder: Path
) -> None:
    events.add_month(JANUARY)
    times = iter([True])

    def late(reached: str) -> None:
        if reached == "empty" and next(times, False):
            events.late(JANUARY)

    with Archiver(config, f"file://{folder}", late) as archiver:
        assert archiver.archive(JANUARY).rows == 1
    assert sum(events.archived().values()) == 1


def test_what_is_logged_is_not_among_the_results(environ: dict[str, str], schema: str, folder: Path) -> None:
    done = archive(environ, folder)  # the first command on this schema: it makes the tables
    assert (done.returncode, done.stdout[:31]) == (0, b"no month of events ended before")
    assert b"postgres.migrated" in done.stderr


def test_pages_of_a_tenant_go_through_months_and_parts_in_order(config: Config, events: Events, folder: Path) -> None:
    events.fill(JANUARY, rows=400, tenants=2)
    events.fill(FEBRUARY, rows=400, tenants=2)
    move(config, folder, JANUARY, FEBRUARY)
    for _ in range(3):
        events.late(JANUARY, tenant=2)
    move(config, folder, JANUARY)
    wanted = sorted((row for row in events.archived() if row[0] == 2), key=lambda row: (row[1], row[2]))
    reader = ArchiveReader(config)
    pages: list[tuple[object, ...]] = []
    after = None
    while page := reader.events(2, 0, MARCH_MS, 37, after):
        pages += page
        after = page[-1][1], page[-1][2]
    assert pages == wanted
    moment = wanted[150][1]
    ms = int(moment.timestamp() * 1000)
    assert reader.events(2, ms, ms + 1, 1000) == [row for row in wanted if row[1] == moment]
    assert reader.events(2, 0, MARCH_MS, 1000, None, "late") == [row for row in wanted if row[4] == "late"]
    assert reader.events(99, 0, MARCH_MS, 1000) == reader.events(2, MARCH_MS, MARCH_MS, 10) == []
    reader.close()
