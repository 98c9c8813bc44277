"""The standard error of `weir worker`: one structured event a line, and nothing else."""

from __future__ import annotations

import json
import re
import signal

from support.command import started


def test_every_line_of_a_worker_is_an_event(environ: dict[str, str]) -> None:
    with started(environ | {"WEIR_LOG_FORMAT": "json"}, "worker", "links") as worker:
        worker.wait_for_error_line(b'"tasks.assigned"')
        worker.process.send_signal(signal.SIGTERM)
        assert worker.end() == 0
    assert worker.out == []
    for line in worker.err:
        assert re.fullmatch(r"[a-z_]+\.[a-z_]+", json.loads(line)["event"]), line
