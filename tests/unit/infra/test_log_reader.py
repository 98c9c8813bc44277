"""Reading logs for `weir logs`: the last lines, and what is added, also where a log is put aside meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from weir.infra.errors import ConfigError
from weir.infra.supervisor.log_reader import LogReader
from weir.infra.supervisor.logs import RotatingFile, put_aside


def followed(reader: LogReader, lines: int, *steps: Callable[[], object]) -> list[bytes]:
    """The first lines that are read while these steps are taken, one whenever nothing is left to read."""
    left = list(steps)

    def wait() -> None:
        left.pop(0)()

    return list(islice(reader.lines(10, True, wait), lines))


def test_the_last_lines_come_from_files_that_were_put_aside_too(tmp_path: Path) -> None:
    (tmp_path / "api.log.1").write_bytes(b"1\n2\n")
    (tmp_path / "api.log").write_bytes(b"3\nno end")
    assert list(LogReader(tmp_path, "api").lines(3, False)) == [b"2\n", b"3\n", b"no end\n"]
    assert list(LogReader(tmp_path, "api").lines(0, False)) == []


def test_of_all_logs_each_line_says_whose_it_is(tmp_path: Path) -> None:
    (tmp_path / "api.log").write_bytes(b"a\n")
    (tmp_path / "kafka.log").write_bytes(b"k\n")
    assert list(LogReader(tmp_path).lines(9, False)) == [b"api   | a\n", b"kafka | k\n"]


def test_what_is_added_is_followed_through_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    file = RotatingFile(path)
    file.write(b"before\n")

    def put_aside_and_go_on() -> None:
        file.write(b"last\n")
        file.close()
        put_aside(path, size=0)
        file.write(b"first\n")

    found = followed(LogReader(tmp_path, "api"), 4, lambda: file.write(b"added\n"), put_aside_and_go_on)
    file.close()
    assert found == [b"before\n", b"added\n", b"last\n", b"first\n"]


def test_half_a_line_waits_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    path.write_bytes(b"")

    def add(text: str) -> Callable[[], object]:
        return lambda: path.write_text(path.read_text() + text)

    assert followed(LogReader(tmp_path, "api"), 1, add("half "), add("a line\n")) == [b"half a line\n"]


def test_a_log_that_is_cut_is_followed_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    path.write_bytes(b"long before\n")
    found = followed(LogReader(tmp_path, "api"), 2, lambda: path.write_bytes(b"after\n"))
    assert found == [b"long before\n", b"after\n"]


def test_a_new_log_is_followed_from_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"")
    assert followed(LogReader(tmp_path), 1, lambda: (tmp_path / "b.log").write_bytes(b"b\n")) == [b"b | b\n"]


def test_a_log_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`weir up` and `weir demo` write them"):
        LogReader(tmp_path)
    (tmp_path / "kafka.log").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"there is no log of api in .*; there are logs of kafka"):
        LogReader(tmp_path, "api")
