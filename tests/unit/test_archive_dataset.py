"""What errors of reading the archive are turned into."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from consumers.archive_dataset import translated
from infra.errors import ArchiveDamagedError, ArchiveUnavailableError


@pytest.mark.parametrize(
    "error", [duckdb.OutOfMemoryException("Out of Memory\nError"), pa.ArrowMemoryError("malloc"), MemoryError()],
    ids=["duckdb", "arrow", "python"],
)  # fmt: skip
def test_too_little_memory_may_be_enough_the_next_time(error: Exception) -> None:
    with pytest.raises(ArchiveUnavailableError, match="more memory") as caught, translated("the archive"):
        raise error
    assert not isinstance(caught.value, ArchiveDamagedError)
