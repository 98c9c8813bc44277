"""Folders and files for weir's own user alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from weir.infra.config import load
from weir.infra.errors import StartError
from weir.infra.runtime.private import private_home, write_private


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_new_home_is_closed_to_others_and_the_folders_above_are_as_usual(tmp_path: Path) -> None:
    home = tmp_path / "above" / "home"
    private_home(load({"WEIR_HOME": str(home)}))
    assert mode(home) == 0o700
    assert mode(home.parent) & 0o500 == 0o500


@pytest.mark.parametrize("before", [0o755, 0o775, 0o777, 0o711])
def test_a_home_that_an_earlier_weir_left_open_is_closed(tmp_path: Path, before: int) -> None:
    (tmp_path / "logs").mkdir()
    tmp_path.chmod(before)
    private_home(load({"WEIR_HOME": str(tmp_path)}))
    assert mode(tmp_path) == 0o700
    assert (tmp_path / "logs").is_dir()


def test_a_folder_for_everybody_is_no_home_and_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(StartError, match="is a shared folder: choose a folder of weir's own"):
        private_home(load({"WEIR_HOME": str(tmp_path)}))
    assert mode(tmp_path) == 0o1777


def test_a_folder_with_what_is_not_weirs_is_no_home_and_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "another-service").mkdir()
    tmp_path.chmod(0o755)
    with pytest.raises(StartError, match="holds what is not weir's: choose a folder of weir's own"):
        private_home(load({"WEIR_HOME": str(tmp_path)}))
    assert mode(tmp_path) == 0o755


def test_a_folder_of_another_user_is_no_home(tmp_path: Path) -> None:
    # Root may give the folder away; anybody else is shown one that is root's.
    home = Path("/proc/sys") if os.geteuid() else tmp_path
    if not os.geteuid():
        os.chown(home, 65534, 65534)
    with pytest.raises(StartError, match="belongs to user id"):
        private_home(load({"WEIR_HOME": str(home)}))


def test_a_home_that_is_a_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(StartError, match=r"WEIR_HOME=.*/home cannot be used: "):
        private_home(load({"WEIR_HOME": str(tmp_path / "home")}))


def test_a_private_file_is_replaced_whole_whatever_an_interrupted_write_left(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    (tmp_path / "secret.new").write_text("half of it")
    write_private(file, "one")
    write_private(file, "two")
    assert (file.read_text(), mode(file)) == ("two", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
