"""The archive's files as one dataset, and a DuckDB that reads nothing but what it is given.

The files are read by pyarrow, from a folder or from an object store: DuckDB's own way to either needs an extension that
it would download, and would let a query read any other file, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from weir.consumers.archive import months as archive_months
from weir.consumers.archive.files import SCHEMA
from weir.consumers.archive.manifest import ArchivedFile
from weir.consumers.archive.storage import ArchiveStorage, check, one_line, read_error
from weir.consumers.sinks.partitions import following
from weir.infra.errors import ArchiveUnavailableError
from weir.schemas.errors import WeirError

#: Most of memory that DuckDB takes for one query; it writes nothing to disk.
MEMORY = "1GB"


def dataset(files: Sequence[ArchivedFile], ahead: bool = True) -> ds.Dataset:
    """The files' rows. A filter by tenant or time opens only the files that can hold some, and reads only such groups.

    Not `ahead`: a file is not fetched before its rows are wanted, which few of them may be.

    Raises ArchiveDamagedError where a file is gone or has another length than the manifest says.
    """
    check(files)
    by_scheme: dict[str, tuple[pafs.FileSystem, list[tuple[str, ds.Expression]]]] = {}
    for file in files:
        place = ArchiveStorage(file.place)
        _, group = by_scheme.setdefault(place.url.partition(":")[0], (place.filesystem, []))
        group.append((place.path(file.name), _holds(file)))
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True, pre_buffer=ahead)
    form = ds.ParquetFileFormat(default_fragment_scan_options=options)
    parts = [
        ds.FileSystemDataset.from_paths(
            [path for path, _ in group],
            schema=SCHEMA,
            format=form,
            filesystem=filesystem,
            partitions=[holds for _, holds in group],
        )
        for filesystem, group in by_scheme.values()
    ]
    if not parts:
        return ds.dataset(SCHEMA.empty_table())
    return parts[0] if len(parts) == 1 else ds.dataset(parts)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turns the errors of reading a dataset and of asking DuckDB into weir's own; `what` is what is read."""
    try:
        yield
    except (duckdb.OutOfMemoryException, MemoryError) as e:
        raise ArchiveUnavailableError(f"{what} needs more memory than is available: {one_line(e)}") from e
    except (OSError, pa.ArrowException) as e:
        raise read_error(what, e) from e
    except duckdb.Error as e:
        if "arrow_scan" in str(e):  # the file's error, told by DuckDB
            raise read_error(what, e) from e
        raise WeirError(one_line(e)) from e


def _holds(file: ArchivedFile) -> ds.Expression:
    """Returns an expression that is true for every row of the file."""
    tenant, time = ds.field("tenant_id"), ds.field("created_at")
    edges = [
        pa.scalar(archive_months.start(month), pa.timestamp("us", tz="UTC"))
        for month in (file.month, following(file.month))
    ]
    return (tenant >= file.first_tenant) & (tenant <= file.last_tenant) & (time >= edges[0]) & (time < edges[1])


def engine() -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that opens no file and no network, whatever a query says, and cannot be told otherwise."""
    made = duckdb.connect(
        config={
            "enable_external_access": "false",
            "python_enable_replacements": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": MEMORY,
            "temp_directory": "",
        }
    )
    made.execute("SET TimeZone = 'UTC'")
    made.execute("SET lock_configuration = true")
    return made
