"""A file of the archive against the manifest: its length, its rows' number, and their checksum."""

from __future__ import annotations

from weir.consumers.archive import files as archive_files
from weir.consumers.archive.manifest import ArchivedFile
from weir.consumers.archive.storage import ArchiveStorage, check
from weir.infra.errors import ArchiveDamagedError


def verified(file: ArchivedFile) -> None:
    """Reads all of it. Raises ArchiveDamagedError where it is not what was written, and ArchiveUnavailableError."""
    check([file])
    with ArchiveStorage(file.place).reading(file.name) as stream:
        found = archive_files.read(stream)
    if (found.rows, found.checksum) != (file.rows, file.checksum):
        raise ArchiveDamagedError(
            f"{file.place}/{file.name} was changed after it was archived: its rows are not those that were written"
        )
