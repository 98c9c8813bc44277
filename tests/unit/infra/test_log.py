"""The log on standard error: which entries are written, and which are left out."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from weir.infra import log
from weir.infra.config import Config


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """The process's logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def logged(level: str) -> list[dict[str, Any]]:
    """The events after everybody has said something, at that level."""
    stream = io.StringIO()
    log.setup(Config().replace(WEIR_LOG_FORMAT="json", WEIR_LOG_LEVEL=level), "test", stream)
    structlog.get_logger("weir.streams.engine.worker.app").info("task.opened")
    for name in ("aiokafka.conn", "faust.app.base", "mode.services", "weir.streams.engine.worker.membership"):
        logging.getLogger(name).info("[^--Consumer]: Starting...")
        logging.getLogger(name).error("Unable to connect to %s", "127.0.0.1:9092")
    logging.getLogger("weir.streams.engine.worker.app").error("[^-App]: Crashed reason=%r", OSError("no memory"))
    logging.getLogger("mode.worker").critical("We experienced a crash!")
    logging.getLogger("aiohttp.server").error("Error handling request")
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_engines_libraries_are_heard_only_where_they_fail() -> None:
    assert [line["event"] for line in logged("info")] == [
        "task.opened", "[^-App]: Crashed reason=OSError('no memory')", "We experienced a crash!",
        "Error handling request",
    ]  # fmt: skip


def test_at_debug_they_say_everything() -> None:
    events = [line["event"] for line in logged("debug")]
    assert events.count("[^--Consumer]: Starting...") == events.count("Unable to connect to 127.0.0.1:9092") == 4


def test_what_strangers_can_cause_is_said_once_a_second_with_how_often_it_happened() -> None:
    times, stream = [10.0, 10.1, 10.9, 11.0, 11.5, 13.0], io.StringIO()
    log.setup(Config().replace(WEIR_LOG_FORMAT="json"), "test", stream)
    clock = iter([*times, times[-1]])
    said = log.Limited(log.get_logger("limited"), lambda: next(clock))
    for _ in times:
        said.warning("one", remote="r")
    said.error("other")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["times"]) for line in lines] == [("one", 1), ("one", 3), ("one", 2), ("other", 1)]
    assert lines[0]["remote"] == "r"
