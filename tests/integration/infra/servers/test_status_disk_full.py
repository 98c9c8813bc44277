"""The status of services while the disk of WEIR_HOME is really full."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.servers.small_disks import fill_up, small_disk
from weir.infra.config import load
from weir.infra.runtime.status import StatusFile, read_all
from weir.infra.servers.disk_space import MIB


@pytest.mark.long
def test_what_is_said_on_a_full_disk_takes_the_place_of_what_was_said(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", MIB) as disk:
        config = load({"WEIR_HOME": str(disk)})
        status, other = StatusFile(config, "sink"), StatusFile(config, "never-heard")
        status.set("running", records=10, refused=0, note="x" * 200)
        filler = fill_up(disk, 0)
        # Shorter than what was said before, then longer, then shorter again.
        for error in ("full", "Postgres cannot do it now: " + "y" * 500, "full"):
            status.set("waiting", attempt=1, error=error)
            other.set("running")
            [said] = read_all(config)
            assert (said.name, said.state, said.detail) == ("sink", "waiting", {"attempt": 1, "error": error})
        # More than a block: as much as it holds. The same where the file seems to have two, and has not.
        for _ in range(2):
            status.set("waiting", attempt=2, error="z" * 6000)
            [said] = read_all(config)
            error = str(said.detail["error"])
            assert (said.state, said.detail["attempt"], error.strip("z")) == ("waiting", 2, "…")
            assert 3500 < len(error) < 4096
            os.truncate(disk / "run" / "sink.json", 8192)
        status.set("waiting", attempt=3, error="full")
        assert [said.detail for said in read_all(config)] == [{"attempt": 3, "error": "full"}]
        assert [path.name for path in (disk / "run").iterdir() if path.suffix != ".json"] == []
        filler.unlink()
        status.set("running", records=11)
        other.set("running")
        assert [(said.name, said.state) for said in read_all(config)] == [
            ("never-heard", "running"),
            ("sink", "running"),
        ]
