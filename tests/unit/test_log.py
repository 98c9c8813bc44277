"""What comes through to standard error, and what is left out."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from infra import log
from infra.config import Config


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
    log.setup(Config(log_format="json", log_level=level), "test", stream)
    structlog.get_logger("streams.engine.app").info("task.opened")
    for name in ("aiokafka.conn", "faust.app.base", "mode.services", "streams.engine.membership"):
        logging.getLogger(name).info("[^--Consumer]: Starting...")
        logging.getLogger(name).error("Unable to connect to %s", "127.0.0.1:9092")
    logging.getLogger("streams.engine.app").error("[^-App]: Crashed reason=%r", OSError("no memory"))
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
