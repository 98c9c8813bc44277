"""Rows of events through Parquet and back: the same lines, so the same checksum; another row is another checksum."""

from __future__ import annotations

import csv
import io
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.consumers.archive import files as archive_files
from weir.consumers.archive.files import SCHEMA, Content

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=20)
ROWS = st.lists(st.tuples(INT64, INT64, INT64, st.floats(width=64), TEXT, st.none() | TEXT), max_size=20)
Row = tuple[int, int, int, float, str, str | None]


def bits(value: float) -> int:
    found: int = struct.unpack(">q", struct.pack(">d", value))[0]
    return found


def line(row: Row) -> bytes:
    """As COPY writes it."""
    tenant, moment, number, time, kind, payload = row
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="").writerow([kind, *([] if payload is None else [payload])])
    texts = out.getvalue() + ("," if payload is None else "")
    return f"{tenant},{moment},{number},{bits(time)},{texts}\n".encode()


def written(rows: list[Row]) -> tuple[Content, bytes]:
    out = pa.BufferOutputStream()
    content = archive_files.write(out, map(line, rows))
    return content, out.getvalue().to_pybytes()


@given(ROWS)
def test_every_bit_of_every_column_comes_back(rows: list[Row]) -> None:
    content, file = written(rows)
    found = archive_files.read(pa.BufferReader(file))
    assert (found.rows, found.id_sum, found.checksum) == (content.rows, content.id_sum, content.checksum)
    assert (found.rows, found.id_sum) == (len(rows), sum(row[2] for row in rows))
    table = pq.read_table(pa.BufferReader(file))
    assert table.schema.equals(SCHEMA)
    back = zip(
        table["tenant_id"].to_pylist(),
        table["created_at"].cast(pa.int64()).to_pylist(),
        table["id"].to_pylist(),
        map(bits, table["processing_time"].to_pylist()),
        table["event_type"].to_pylist(),
        table["payload"].to_pylist(),
        strict=True,
    )
    assert list(back) == [(*row[:3], bits(row[3]), *row[4:]) for row in rows]


@given(ROWS.filter(bool), st.data())
def test_one_row_less_or_another_order_is_another_checksum(rows: list[Row], data: st.DataObject) -> None:
    content, _ = written(rows)
    at = data.draw(st.integers(0, len(rows) - 1))
    assert written(rows[:at] + rows[at + 1 :])[0].checksum != content.checksum
    others = data.draw(st.permutations(rows))
    assert (written(others)[0].checksum == content.checksum) == (list(map(line, others)) == list(map(line, rows)))


@pytest.mark.parametrize("column", range(6))
def test_one_other_value_is_another_checksum(column: int) -> None:
    row: Row = (1, 2, 3, 0.0, "a", None)
    other = [*row]
    other[column] = (2, 3, 4, -0.0, "", "")[column]
    tenant, moment, number, time, kind, payload = other
    changed: Row = (tenant, moment, number, time, kind, payload)  # type: ignore[assignment]
    assert written([row])[0].checksum != written([changed])[0].checksum


def test_a_block_of_lines_is_a_row_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_files, "GROUP_BYTES", 100)
    rows: list[Row] = [(n, n, n, 1.5, "type", '{"n": 1}') for n in range(50)]
    content, file = written(rows)
    metadata = pq.ParquetFile(pa.BufferReader(file)).metadata
    assert metadata.num_rows == 50
    assert metadata.num_row_groups > 10
    assert archive_files.read(pa.BufferReader(file)).checksum == content.checksum


def test_a_file_with_other_columns_is_refused() -> None:
    out = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), out)
    with pytest.raises(pa.ArrowInvalid, match="its columns are not those of events"):
        archive_files.read(pa.BufferReader(out.getvalue()))
