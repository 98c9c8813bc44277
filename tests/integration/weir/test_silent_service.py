"""A service that cannot say how it does."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from weir.infra.config import load
from weir.infra.supervisor import service
from weir.infra.supervisor.logs import LogPump
from weir.infra.supervisor.processes import end, spawn
from weir.services.registry import services


def test_a_service_that_says_nothing_keeps_no_other_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_SILENT_S", 0.0)
    process = spawn(["sleep", "600"])
    logs = LogPump(tmp_path)
    try:
        service.ServiceProcess(load({"WEIR_HOME": str(tmp_path)}), services()[0], logs).wait_ready(process)
        assert process.poll() is None
    finally:
        logs.close()
        end({process: signal.SIGKILL}, seconds=10)
