"""Structured logs: one line per event of interest, as console text or JSON, on stderr. No payloads at info level."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO, cast

import structlog

from infra.config import Config


def setup(config: Config, service: str, stream: TextIO | None = None) -> None:
    """Sends all logs, the libraries' too, to `stream` (stderr) in the configured form. Called once per process."""
    stream = stream or sys.stderr
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if config.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=stream.isatty())
    )
    level = logging.getLevelName(config.log_level.upper())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    if level > logging.DEBUG:
        handler.addFilter(_is_of_interest)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for noisy in ("asyncio", "kafka"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
    structlog.contextvars.bind_contextvars(service=service)


def _is_of_interest(record: logging.LogRecord) -> bool:
    """Leaves out what Faust and its driver say: the engine logs its own state, and they repeat themselves without end
    while Kafka is away. Kept is what is critical, and why one of their services crashed, which nobody else says.

    A subclass of one of Faust's services logs as the module that it stands in, so weir's own events are told from
    them by their form: structlog hands on a dict.
    """
    if isinstance(record.msg, dict) or record.name.partition(".")[0] not in ("faust", "mode", "aiokafka", "streams"):
        return True
    return record.levelno >= logging.CRITICAL or "Crashed reason=" in str(record.msg)


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger; `log.info("feed.connected", url=url)`: a dotted event name, then its facts."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(name))
