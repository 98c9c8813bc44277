"""Failures of the archive: each gives one clear line, and no event is lost."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileSelector

from support.command import weir
from support.processes import COMMAND
from support.servers.object_stores import answering, away, object_store, with_store
from support.servers.own_servers import own
from support.tenants.archived_events import FEBRUARY, JANUARY, Events, events_of, lying_in, named_in
from support.wait import PATIENCE_S
from weir.consumers.archive.archiver import ArchiveBusyError, Archiver
from weir.consumers.archive.reader import ArchiveReader
from weir.consumers.archive.storage import ArchiveStorage
from weir.infra.config import Config
from weir.infra.errors import ArchiveDamagedError, ArchiveUnavailableError, PostgresUnavailableError, WeirError
from weir.infra.ports import free_ports
from weir.infra.servers.postgres import PostgresServer

MARCH_MS = 1_677_628_800_000


@pytest.fixture
def events(config: Config) -> Iterator[Events]:
    with events_of(config) as made:
        made.fill(JANUARY)
        yield made


def error_of(done: subprocess.CompletedProcess[bytes]) -> str:
    """Its one line."""
    assert done.returncode == 1, done
    lines = [line for line in done.stderr.decode().splitlines() if not line.startswith("events_20")]
    assert len(lines) == 1, done
    return lines[0]


def archive(environ: dict[str, str], place: str) -> subprocess.CompletedProcess[bytes]:
    return weir(environ, "archive", "--older-than", "1y", "--to", place, "--yes")


def test_a_file_in_place_of_the_folder(environ: dict[str, str], events: Events, tmp_path: Path) -> None:
    (tmp_path / "cold").write_text("in the way")
    before = events.in_postgres()
    said = error_of(archive(environ, f"file://{tmp_path}/cold"))
    assert said.startswith(f"weir: events_202301 is not archived: file://{tmp_path}/cold/events_202301/")
    assert " cannot be written: [Errno 20] Not a directory" in said
    assert events.in_postgres() == before
    (tmp_path / "cold").unlink()
    assert archive(environ, f"file://{tmp_path}/cold").returncode == 0
    assert events.archived() == before


def test_one_month_that_fails_keeps_no_other_back(environ: dict[str, str], events: Events, tmp_path: Path) -> None:
    events.fill(FEBRUARY)
    before = events.in_postgres()
    (tmp_path / "cold").mkdir()
    (tmp_path / "cold/events_202301").write_text("in the way")
    done = archive(environ, f"file://{tmp_path}/cold")
    assert (done.returncode, done.stdout[:29]) == (1, b"events_202302: 3,000 rows in ")
    assert "weir: events_202301 is not archived: file://" in error_of(done)
    assert events.partitions() == {"events_202301"}
    assert events.everywhere() == before


def test_it_goes_on_after_postgres_has_ended_the_connection(config: Config, events: Events, tmp_path: Path) -> None:
    events.fill(FEBRUARY)
    times = iter([True])

    def ended(step: str) -> None:
        if step == "read-back" and next(times, False):
            events.connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity JOIN pg_locks USING (pid)"
                " WHERE application_name = 'weir-archive' AND locktype = 'advisory' AND database ="
                " (SELECT oid FROM pg_database WHERE datname = current_database()) AND"
                " (classid::bigint << 32) + objid::bigint = hashtextextended(current_schema() || '/archive', 0)"
            )

    with Archiver(config, f"file://{tmp_path}/cold", ended) as archiver:
        with pytest.raises(PostgresUnavailableError):
            archiver.archive(JANUARY)
        archiver.go_on()
        archiver.archive(FEBRUARY)
        archiver.archive(JANUARY)
        with pytest.raises(ArchiveBusyError):
            Archiver(config, f"file://{tmp_path}/cold")
    assert events.partitions() == set()


def test_limits_that_others_are_given_do_not_end_it(config: Config, events: Events, tmp_path: Path) -> None:
    before = events.in_postgres()
    limits = "-cstatement_timeout=1 -clock_timeout=1 -cidle_session_timeout=1".replace(" ", "%20").replace("=", "%3D")
    assert config.postgres.url is not None
    with Archiver(
        config.replace(WEIR_POSTGRES=f"{config.postgres.url}%20{limits}"), f"file://{tmp_path}/cold"
    ) as archiver:
        archiver.archive(JANUARY)
    assert events.archived() == before


def test_a_disk_that_is_full_before_all_is_written(environ: dict[str, str], events: Events, tmp_path: Path) -> None:
    before = events.in_postgres()
    full = subprocess.run(
        [*COMMAND, "archive", "--older-than", "1y", "--to", f"file://{tmp_path}/cold", "--yes"],
        env=environ,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert " cannot be written: [Errno 27] Error writing bytes to file" in error_of(full)
    assert events.in_postgres() == before
    assert archive(environ, f"file://{tmp_path}/cold").returncode == 0
    assert events.archived() == before
    assert lying_in(tmp_path / "cold") == named_in(events.files())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["--older-than", "1y", "--yes"],
            "weir: no archive given: use --to s3://bucket/prefix or --to file:///path, or set",
        ),
        (["--older-than", "2 years"], "Invalid value for --older-than: write an age as 2y, 18mo or 90d"),
        (["--older-than", "9999y"], "Invalid value for --older-than: 9999y ago is before the year 1"),
        (["--yes"], "Invalid value for --older-than: name the months to archive, such as --older-than 2y"),
        (["--to", "ftp://x"], "Invalid value for '--to': must be s3://bucket/prefix or file:///path"),
        (["query", "--sql", "SELECT 1", "--tenant", "1"], "weir: --sql cannot be used together with --tenant"),
        (["query", "--sql", "DROP TABLE events"], "weir: the archive accepts one SELECT statement, and no other"),
    ],
    ids=["nowhere", "age", "years", "no-age", "place", "both", "drop"],
)
def test_what_cannot_be_asked_for(environ: dict[str, str], events: Events, arguments: list[str], error: str) -> None:
    done = weir(environ, "archive", *arguments)
    assert (done.returncode in (1, 2), done.stdout) == (True, b"")
    assert error in " ".join(done.stderr.decode().replace("│", "").split())


def test_a_postgres_that_is_read_only(environ: dict[str, str], events: Events, tmp_path: Path) -> None:
    before = events.in_postgres()
    mine = environ | {"WEIR_POSTGRES": f"{environ['WEIR_POSTGRES']}%20-cdefault_transaction_read_only%3Don"}
    said = error_of(archive(mine, f"file://{tmp_path}/cold"))
    assert said.startswith("weir: Postgres cannot do it now: cannot execute ")
    assert said.endswith("in a read-only transaction")
    assert events.in_postgres() == before


@pytest.mark.parametrize("step", ["file", "read-back", "before-commit"])
def test_a_postgres_that_is_killed_in_the_middle(config: Config, tmp_path: Path, step: str) -> None:
    [port] = free_ports(1)
    mine = config.replace(WEIR_POSTGRES=None, WEIR_POSTGRES_PORT=port)
    with own(PostgresServer(mine)) as server:
        with events_of(mine) as events:
            events.fill(JANUARY)
            before = events.in_postgres()
        with (
            Archiver(mine, f"file://{tmp_path}/cold", lambda reached: reached == step and server.kill()) as archiver,
            pytest.raises(PostgresUnavailableError, match=r"Postgres does not answer|cannot do it now"),
        ):
            archiver.archive(JANUARY)
        server.start()
        with events_of(mine) as events:
            assert events.everywhere() == before
            with Archiver(mine, f"file://{tmp_path}/cold") as archiver:
                archiver.archive(JANUARY)
            assert events.archived() == before
            assert lying_in(tmp_path / "cold") == named_in(events.files())


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0xFF
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def other_rows(file: Path) -> None:
    """Of the same length and whole: only the rows say it."""
    table = pq.read_table(file)
    file.write_bytes(file.read_bytes()[:0])
    pq.write_table(table.slice(1), file, compression="none", use_dictionary=False)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (flipped, "is damaged: it was changed after it was archived: "),
        (cut, "was changed after it was archived: it has "),
        (other_rows, "was changed after it was archived: it has "),
        (Path.unlink, "is missing: it was deleted after it was archived"),
    ],
    ids=["flipped", "cut", "other", "gone"],
)
def test_a_file_that_was_changed_or_deleted(
    environ: dict[str, str], config: Config, events: Events, tmp_path: Path, damage: object, error: str
) -> None:
    events.fill(FEBRUARY)
    with Archiver(config, f"file://{tmp_path}/cold") as archiver:
        archiver.archive(JANUARY)
        archiver.archive(FEBRUARY)
    assert weir(environ, "archive", "verify").stdout == b"2 of 2 files are as they were written\n"
    [february] = [Path(name) for name in lying_in(tmp_path / "cold") if "202302" in name]
    assert callable(damage)
    damage(february)
    reader = ArchiveReader(config)
    with pytest.raises(ArchiveDamagedError, match=error):
        reader.events(2, 0, MARCH_MS, 100_000)
    assert reader.events(2, 0, 1_675_209_600_000, 10)  # January is whole
    reader.close()
    asked = weir(environ, "archive", "query", "--sql", "SELECT max(id), max(payload), sum(processing_time) FROM events")
    assert error in error_of(asked)
    checked = weir(environ, "archive", "verify")
    assert (checked.returncode, checked.stdout) == (1, b"1 of 2 files are as they were written\n")
    assert f"{february}" in checked.stderr.decode()


def test_rows_that_are_not_what_postgres_gave_are_not_dropped(config: Config, events: Events, tmp_path: Path) -> None:
    before = events.in_postgres()

    def spoil(step: str) -> None:
        if step == "written":
            [file] = lying_in(tmp_path / "cold")
            other_rows(Path(file))

    with (
        Archiver(config, f"file://{tmp_path}/cold", spoil) as archiver,
        pytest.raises(
            WeirError, match=r"does not hold the rows that Postgres sent \(2999 of 3000\): nothing was dropped"
        ),
    ):
        archiver.archive(JANUARY)
    assert events.in_postgres() == before
    with Archiver(config, f"file://{tmp_path}/cold") as archiver:
        archiver.archive(JANUARY)
    assert events.archived() == before


# --- An object store ---


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with object_store(monkeypatch) as address:
        yield address


def test_an_object_store_holds_the_months_and_answers(
    environ: dict[str, str], config: Config, events: Events, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = with_store(environ, monkeypatch, store) | {"WEIR_ARCHIVE": "s3://cold/weir/"}
    before = events.in_postgres()
    done = weir(mine, "archive", "--older-than", "1y", "--yes")
    assert done.returncode == 0, done
    assert events.archived() == before
    assert all(file.place.startswith("s3://cold/weir/events_202301/") for file in events.files())
    reader = ArchiveReader(config)
    assert len(reader.events(2, 0, MARCH_MS, 10_000)) == sum(row[0] == 2 for row in before)
    reader.close()
    assert weir(mine, "archive", "verify").stdout == b"1 of 1 files are as they were written\n"
    counted = weir(mine, "archive", "query", "--sql", "SELECT count(*) AS n FROM events WHERE tenant_id = 2")
    assert counted.stdout == b'{"n":%d}\n' % sum(row[0] == 2 for row in before)


def test_what_a_crash_left_in_an_object_store_is_removed(
    environ: dict[str, str], config: Config, events: Events, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = with_store(environ, monkeypatch, store)
    before = events.in_postgres()
    arguments = ["archive", "--older-than", "1y", "--yes", "--to", "s3://cold/weir"]
    assert weir(mine, *arguments, "--crash-at", "file").returncode == 86
    with Archiver(config, "s3://cold/weir") as archiver:
        archiver.archive(JANUARY)
    found = ArchiveStorage("s3://cold").filesystem.get_file_info(FileSelector("cold", recursive=True))
    assert {f"s3://{info.path}" for info in found if info.is_file and info.size} == {
        f"{file.place}/{file.name}" for file in events.files()
    }
    assert events.archived() == before


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, "ACCESS_DENIED"), (500, "HTTP status 500"), (0, "NETWORK_CONNECTION"), (1, "NO_SUCH_BUCKET")],
    ids=["refuses", "fails", "away", "no-bucket"],
)
def test_an_object_store_that_does_not_take_it(
    environ: dict[str, str],
    config: Config,
    events: Events,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    error: str,
) -> None:
    before = events.in_postgres()
    mine = with_store(environ, monkeypatch, store)
    if status == 1:
        assert f"AWS Error {error}" in error_of(archive(mine, "s3://none/weir"))
        assert events.in_postgres() == before
        return
    with Archiver(config, "s3://cold/weir") as archiver:
        archiver.archive(JANUARY)
    events.fill(FEBRUARY)
    before = events.in_postgres()
    with answering(status) if status else away() as address:
        mine = with_store(environ, monkeypatch, address)
        said = error_of(archive(mine, "s3://cold/weir"))
        assert said.startswith("weir: events_202302 is not archived: s3://cold/weir/events_202302/")
        assert " cannot be written: When initiating multiple part upload" in said
        assert error in said
        reader = ArchiveReader(config)
        with pytest.raises(
            ArchiveUnavailableError, match=r"s3://cold/weir/events_202301/.* cannot be read: "
        ) as caught:
            reader.events(2, 0, MARCH_MS, 10)
        assert not isinstance(caught.value, ArchiveDamagedError)
        reader.close()
    assert events.in_postgres() == before


@pytest.mark.parametrize("address", ["localhost:9000", "http://h/path"])
def test_an_endpoint_that_is_none(
    environ: dict[str, str], events: Events, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = error_of(archive(with_store(environ, monkeypatch, address), "s3://cold"))
    assert said == f"weir: AWS_ENDPOINT_URL='{address}' cannot be used: must be http[s]://host:port"
