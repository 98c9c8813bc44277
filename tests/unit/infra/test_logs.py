"""Logs of services: files that are rotated, and lines of several processes that are not mixed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from support.wait import until
from weir.infra.supervisor.logs import LogPump, RotatingFile, log_file


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_full_file_is_put_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "a.log", size=8, kept=2)
    for n in range(7):
        file.write(b"line%d\n" % n)
    file.close()
    assert written(tmp_path) == {"a.log": b"line6\n", "a.log.1": b"line5\n", "a.log.2": b"line4\n"}


def test_it_is_added_to_and_a_line_beyond_the_size_is_whole(tmp_path: Path) -> None:
    for text in (b"before\n", b"x" * 20 + b"\n"):
        file = RotatingFile(tmp_path / "a.log", size=10, kept=1)
        file.write(text)
        file.close()
    assert written(tmp_path) == {"a.log": b"x" * 20 + b"\n", "a.log.1": b"before\n"}


def test_what_cannot_be_written_is_counted_and_said_once_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.write_text("in the way")
    file = RotatingFile(folder / "a.log")
    file.write(b"lost\n")
    assert file.dropped == 5
    folder.unlink()
    file.write(b"kept\n")
    file.close()
    assert written(folder) == {"a.log": b"weir: the log could not be written, 5 bytes are missing here\nkept\n"}


def test_lines_go_to_the_log_of_their_process_and_onward_unmixed(tmp_path: Path) -> None:
    onward: list[bytes] = []
    pump = LogPump(tmp_path, onward.append)
    ends = {}
    for name in ("a", "b"):
        with pump.pipe(name) as output:
            ends[name] = os.dup(output)
    os.write(ends["a"], b"half of ")
    os.write(ends["b"], b"all of b\n")
    os.write(ends["a"], b"a\nno end")
    for end in ends.values():
        os.close(end)
    pump.close(30)
    assert written(tmp_path) == {"a.log": b"half of a\nno end", "b.log": b"all of b\n"}
    assert log_file(tmp_path, "a") == tmp_path / "a.log"
    assert sorted(b"".join(onward).splitlines()) == [b"all of b", b"half of a", b"no end"]


def test_who_does_not_take_the_lines_any_more_is_left_alone(tmp_path: Path) -> None:
    def gone(_: bytes) -> None:
        raise BrokenPipeError

    pump = LogPump(tmp_path, gone)
    for _ in range(2):
        with pump.pipe("a") as output:
            os.write(output, b"line\n")
    pump.close(30)
    assert written(tmp_path) == {"a.log": b"line\nline\n"}


def test_a_log_that_others_have_removed_is_made_again(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "a.log")
    file.write(b"removed\n")
    (tmp_path / "a.log").unlink()
    file.write(b"again\n")
    file.close()
    assert written(tmp_path) == {"a.log": b"again\n"}


def test_lines_that_cannot_be_passed_on_are_missed_where_others_can(tmp_path: Path) -> None:
    passed: list[bytes] = []

    def full_at_first(lines: bytes) -> None:
        passed.append(lines)
        if len(passed) == 1:
            raise OSError(errno.ENOSPC, "full")

    pump = LogPump(tmp_path, full_at_first)
    for number, text in enumerate((b"lost\n", b"there\n"), start=1):
        with pump.pipe("a") as output:
            os.write(output, text)
        until(lambda number=number: len(passed) == number)
    pump.close(30)
    assert passed[1] == b"weir: the log could not be written, 5 bytes are missing here\nthere\n"
    assert written(tmp_path) == {"a.log": b"lost\nthere\n"}
