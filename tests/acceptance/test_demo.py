"""`weir demo`: the sample feed through the real pipeline, without a terminal and with one."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.command import weir
from support.processes import COMMAND
from support.wait import PATIENCE_S
from weir.infra.ports import free_ports

#: Windows that end while a test waits for them.
QUICK = {"WEIR_LINKS_WINDOW": "5s", "WEIR_LINKS_GRACE": "1s"}


def test_the_whole_sample_comes_back_as_it_was_sent(environ: dict[str, str]) -> None:
    done = weir(environ | QUICK, "demo", "--once", "--speed", "30")
    assert done.returncode == 0, done
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("sent ")
    assert lines[-1].startswith("all 3,000 calls came back as they were sent, in ")


@pytest.mark.long
def test_on_a_terminal_it_shows_a_table_until_ctrl_c(environ: dict[str, str]) -> None:
    master, slave = pty.openpty()
    terminal = {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen([*COMMAND, "demo"], env=environ | QUICK | terminal, stdout=slave, stderr=slave)
    os.close(slave)
    try:
        seen = read_until(master, b"busiest since", b"")
        seen = read_until(master, b"closed windows: 1,", seen)
        process.send_signal(signal.SIGINT)
        rest = read_until(master, None, b"")
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert b"Traceback" not in seen + rest


def read_until(terminal: int, text: bytes | None, seen: bytes) -> bytes:
    """Returns the terminal's output up to the text, or to the end if the text is None."""
    deadline = time.monotonic() + PATIENCE_S
    while text is None or text not in seen:
        assert time.monotonic() < deadline, seen[-3000:]
        if select.select([terminal], [], [], 1)[0]:
            try:
                seen += os.read(terminal, 1 << 16)
            except OSError:  # what Linux says when the last writer has closed
                assert text is None, seen[-3000:]
                return seen
    return seen


def test_a_feed_of_ones_own_is_for_weir_up(environ: dict[str, str]) -> None:
    done = weir(environ | {"WEIR_FEED_URL": "ws://127.0.0.1:1"}, "demo")
    assert done.returncode == 1
    assert done.stderr.startswith(b"weir: WEIR_FEED_URL is set, and the demo plays a feed of its own")


@pytest.mark.long
def test_what_the_demo_makes_stays_out_of_ones_own_data(environ: dict[str, str]) -> None:
    elsewhere = ("WEIR_KAFKA", "WEIR_POSTGRES", "WEIR_TOPIC_PREFIX")
    embedded = {name: value for name, value in environ.items() if name not in elsewhere}
    ports = ("WEIR_KAFKA_PORT", "WEIR_KAFKA_CONTROLLER_PORT", "WEIR_POSTGRES_PORT")
    embedded |= {name: str(port) for name, port in zip(ports, free_ports(3), strict=True)}
    done = weir(embedded, "demo", "--duration", "1")
    assert done.returncode == 0, done
    home = Path(environ["WEIR_HOME"])
    assert [path.name for path in home.iterdir()] == ["demo"]
    assert {"kafka", "postgres"} <= {path.name for path in (home / "demo").iterdir()}
