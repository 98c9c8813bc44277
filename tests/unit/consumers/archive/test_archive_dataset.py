"""Errors of reading the archive, and the errors of weir that they become."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from weir.consumers.archive.dataset import translated
from weir.infra.errors import ArchiveDamagedError, ArchiveUnavailableError


@pytest.mark.parametrize(
    "error", [duckdb.OutOfMemoryException("Out of Memory\nError"), pa.ArrowMemoryError("malloc"), MemoryError()],
    ids=["duckdb", "arrow", "python"],
)  # fmt: skip
def test_too_little_memory_may_be_enough_the_next_time(error: Exception) -> None:
    with pytest.raises(ArchiveUnavailableError, match="more memory") as caught, translated("the archive"):
        raise error
    assert not isinstance(caught.value, ArchiveDamagedError)
