"""Rows out of the archive's files: in order, and read no further than they are wanted."""

from __future__ import annotations

import datetime as dt
import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from weir.consumers.archive import files as archive_files
from weir.consumers.archive.manifest import ArchivedFile
from weir.consumers.archive.rows import rows

START, END = dt.datetime(2023, 1, 1, tzinfo=dt.UTC), dt.datetime(2023, 2, 1, tzinfo=dt.UTC)


def made(folder: Path, part: int, ids: range, payload: str) -> ArchivedFile:
    """A file with an event of tenant 2 for each id, a second after the one before."""
    name = f"{part}.parquet"
    start = int(START.timestamp()) * 1_000_000
    lines = (f'2,{start + number * 1_000_000},{number},0,"login","{payload}"\n'.encode() for number in ids)
    with pafs.LocalFileSystem().open_output_stream(str(folder / name)) as stream:
        content = archive_files.write(stream, lines)
    size = (folder / name).stat().st_size
    return ArchivedFile(f"file://{folder}", name, START.date(), part, 1, 5, content.rows, size, content.checksum)


def test_parts_are_merged(tmp_path: Path) -> None:
    files = [made(tmp_path, part, range(part, 1_000, 3), "1") for part in range(3)]
    found = [row[2] for row in rows(files, 2, START, END, None, None)]
    assert found == list(range(1_000))
    after = (START + dt.timedelta(seconds=500), 500)
    assert [row[2] for row in rows(files, 2, after[0], END, after, "login")] == list(range(501, 1_000))


def test_what_is_not_wanted_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_files, "GROUP_BYTES", 1 << 20)
    file = made(tmp_path, 0, range(600), "x" * 200_000)  # 120 MB, of which three rows are a group
    used = pa.total_allocated_bytes()
    found = rows([file], 2, START, END, None, None)
    assert [row[2] for row in itertools.islice(found, 30)] == list(range(30))
    assert pa.total_allocated_bytes() - used < 40 << 20
