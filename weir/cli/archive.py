"""`weir archive`: months of old events moved out of Postgres into Parquet files, and read there."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weir.cli._groups import STORES, CommandGroup
from weir.cli._shared import Listing, agreed, configured, say, show_rows, time_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from weir.consumers.archive.archiver import Archiver, Month
    from weir.consumers.archive.sql import QueryRows

#: As with SIGKILL, where a test wants it.
_CRASHED = 86

group = typer.Typer(cls=CommandGroup)


def register(app: typer.Typer) -> None:
    """Adds `weir archive` and its subcommands."""
    group.callback(invoke_without_command=True)(archive)
    group.command("list")(list_parts)
    group.command("query")(query)
    group.command("verify")(verify)
    app.add_typer(group, name="archive", rich_help_panel=STORES)


def _place(text: str) -> str:
    from weir.infra.config.sections.archive import archive_url

    try:
        return archive_url(text)
    except ValueError as e:
        raise typer.BadParameter(str(e)) from e


def archive(
    context: typer.Context,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", metavar="AGE", help="Archive months that ended at least this long ago: 2y, 18mo or 90d."
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(parser=_place, metavar="URL", help="s3://bucket/prefix or file:///path; default: WEIR_ARCHIVE."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    crash_at: Annotated[str | None, typer.Option(hidden=True, help="A step, for tests.")] = None,
) -> None:
    """Move whole months of tenants' events from Postgres into Parquet files.

    A month is written, read back, compared with the rows in Postgres, recorded, and only then dropped from Postgres.
    A month that cannot be archived stays in Postgres, the others are archived, and the exit code is 1. The run ends if
    the archive cannot be reached at all. Run the command again to complete an interrupted run. Daily figures per
    tenant stay in Postgres.
    """
    from weir.infra.extras import require

    require("archive", "weir archive")
    if context.invoked_subcommand is not None:
        return
    import datetime as dt

    from weir.consumers.archive import months as archive_months
    from weir.consumers.archive.archiver import Archiver
    from weir.infra.postgres import migrate
    from weir.schemas.errors import WeirError

    if older_than is None:
        raise typer.BadParameter("name the months to archive, such as --older-than 2y", param_hint="--older-than")
    try:
        before = archive_months.cutoff(older_than, dt.datetime.now(dt.UTC))
    except ValueError as e:
        raise typer.BadParameter(str(e), param_hint="--older-than") from e
    config = configured("weir-archive")
    place = to or config.archive.url
    if place is None:
        raise WeirError("no archive given: use --to s3://bucket/prefix or --to file:///path, or set WEIR_ARCHIVE")
    migrate(config)
    with Archiver(config, place, _crash_at(crash_at)) as archiver:
        months, others = archiver.due(before)
        if months and not agreed(_question(months, place), yes, "nothing was archived"):
            raise typer.Exit(1)
        for reason in others:
            say(reason)
        done = _archived(archiver, months)
        if others or len(done) < len(months):
            raise typer.Exit(1)
        if not months:
            print(f"no month of events ended before {before:%Y-%m-%d}")


def _archived(archiver: Archiver, months: Sequence[Month]) -> list[str]:
    """Archives one month after the other, and gives the partitions that went.

    Raises ArchiveUnavailableError where the archive is away: every other month would wait as long for the same.
    """
    from weir.infra.errors import ArchiveUnavailableError, ConfigError
    from weir.schemas.errors import WeirError

    gone: list[str] = []
    for month in months:
        try:
            done = archiver.archive(month.month)
        except ConfigError:  # would be every month's
            raise
        except WeirError as e:
            error = f"{month.partition} is not archived: {e}"
            if isinstance(e, ArchiveUnavailableError):
                try:
                    archiver.reach()
                except ArchiveUnavailableError as away:
                    raise ArchiveUnavailableError(
                        f"{error}; the archive is unreachable ({away}), so no later month was tried. "
                        f"Archived: {', '.join(gone) or 'none'}. The other months stay in Postgres: run this "
                        "again once the archive is reachable"
                    ) from away
            say(error)
            archiver.go_on()
            continue
        gone.append(month.partition)
        print(f"{month.partition}: {done.rows:,} rows in {done.files:,} files, {done.bytes:,} bytes", flush=True)
    return gone


def _crash_at(step: str | None) -> Callable[[str], object]:
    from weir.consumers.archive.archiver import STEPS

    if step is not None and step not in STEPS:
        raise typer.BadParameter(f"one of {', '.join(STEPS)}", param_hint="--crash-at")
    return lambda reached: os._exit(_CRASHED) if reached == step else None


def _question(months: Sequence[Month], place: str) -> str:
    """Whether these months shall go: what goes is said on standard error."""
    for month in months:
        rows = f"about {month.rows:,} rows, " if month.rows is not None else ""
        print(f"{month.partition}: {rows}{month.bytes:,} bytes in Postgres", file=sys.stderr)
    return f"Move {len(months)} months to {place}?"


def list_parts() -> None:
    """Show which months are archived, where, and what a run that was interrupted has left."""
    from weir.consumers.archive import manifest as archive_manifest
    from weir.infra.config import load
    from weir.infra.postgres import connect, translated

    with connect(load(os.environ), "weir-archive-list") as connection, translated():
        parts = archive_manifest.parts(connection)
        rows = []
        for part in parts:
            files = archive_manifest.files_of(connection, part)
            size = sum(file.bytes for file in files)
            rows.append((f"{part.month:%Y-%m}", part.part, part.state, part.rows, len(files), size, part.place))
    headers = ("month", "part", "state", "rows", "files", "bytes", "place")
    show_rows(headers, rows, right=("part", "rows", "files", "bytes"))


def query(
    tenant: Annotated[int | None, typer.Option(min=1, metavar="N", help="This tenant's events.")] = None,
    start: Annotated[
        int | None, typer.Option("--from", parser=time_ms, metavar="TIME", help="Events at this time or later.")
    ] = None,
    end: Annotated[int | None, typer.Option("--to", parser=time_ms, metavar="TIME", help="Events before this.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Events of this type.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many events.")] = 100,
    sql: Annotated[
        str | None, typer.Option("--sql", metavar="SELECT", help="One SELECT over table `events` instead.")
    ] = None,
) -> None:
    """Read archived events. Times are RFC 3339 or epoch milliseconds.

    Unless the output is a terminal, each row is one line of JSON. --sql is run by DuckDB on the columns of table
    events: tenant_id, created_at, id, processing_time, event_type, payload (JSON as text).
    """
    from weir.consumers.archive import manifest as archive_manifest
    from weir.consumers.archive.months import containing
    from weir.consumers.archive.sql import answer
    from weir.consumers.links.tables import moment
    from weir.infra.config import load
    from weir.infra.postgres import connect, translated
    from weir.schemas.errors import WeirError

    if sql is not None and any(value is not None for value in (tenant, start, end, event_type)):
        raise WeirError("--sql cannot be used together with --tenant, --from, --to or --type")
    first, last = (None if ms is None else moment(ms) for ms in (start, end))
    with connect(load(os.environ), "weir-archive-query") as connection, translated():
        files = archive_manifest.complete_files(connection, tenant, containing(first), containing(last))
    conditions: dict[str, Any] = {
        "tenant_id = ?": tenant, "created_at >= ?": first, "created_at < ?": last, "event_type = ?": event_type
    }  # fmt: skip
    given = {text: value for text, value in conditions.items() if value is not None}
    if sql is None:
        where = f"WHERE {' AND '.join(given)}" if given else ""
        sql = f"SELECT * FROM events {where} ORDER BY tenant_id, created_at, id LIMIT {limit}"
    with answer(files, sql, list(given.values())) as found:
        _show(found) if sys.stdout.isatty() else _write_lines(found)


def _show(found: QueryRows) -> None:
    listing = Listing(*found.columns, fold=found.columns)
    for row in found.rows:
        listing.add(*map(_plain, row))
    listing.show()


def _write_lines(found: QueryRows) -> None:
    import msgspec

    for row in found.rows:
        line = dict(zip(found.columns, map(_plain, row), strict=True))
        print(msgspec.json.encode(line, enc_hook=str).decode())


def _plain(value: object) -> object:
    """A value as JSON has it: a moment in UTC as RFC 3339."""
    import datetime as dt

    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return value.astimezone(dt.UTC).replace(tzinfo=None).isoformat() + "Z"
    return value


def verify() -> None:
    """Read every archived file again and compare its rows with the manifest."""
    from weir.consumers.archive import manifest as archive_manifest
    from weir.consumers.archive.verify import verified
    from weir.infra.config import load
    from weir.infra.errors import ArchiveDamagedError
    from weir.infra.postgres import connect, translated

    with connect(load(os.environ), "weir-archive-verify") as connection, translated():
        files = archive_manifest.complete_files(connection)
    damaged = 0
    for file in files:
        try:
            verified(file)
        except ArchiveDamagedError as e:
            print(e, file=sys.stderr)
            damaged += 1
    print(f"{len(files) - damaged:,} of {len(files):,} files are as they were written")
    if damaged:
        raise typer.Exit(1)
