"""Structured logs: one line per event of interest, as console text or JSON, on stderr. No payloads at info level."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from io import TextIOBase
from typing import Any, TextIO, cast

from weir.infra.config import Config


@contextlib.contextmanager
def _absent(module: str) -> Iterator[None]:
    """Makes imports of the module fail in the block, as if it were not installed, unless it is imported already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = cast(Any, None)
    try:
        yield
    finally:
        del sys.modules[module]


# structlog imports rich for colored tracebacks, which weir does not print: 0.3 s at the start of every process.
with _absent("rich"):
    import structlog


def setup(config: Config, service: str, stream: TextIO | TextIOBase | None = None) -> None:
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
        if config.log.format == "json"
        else structlog.dev.ConsoleRenderer(colors=stream.isatty())
    )
    level = logging.getLevelName(config.log.level.upper())
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


def log_as_text() -> None:
    """Hands weir's lines as text to the standard library's log, where others have set that up: Faust's command line."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer(key_order=["event"])],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


#: The modules of Faust and its driver, and those in which its services are subclassed.
_FAUST = ("faust.", "mode.", "aiokafka.", "weir.streams.")


def _is_of_interest(record: logging.LogRecord) -> bool:
    """Leaves out what Faust and its driver say: the engine logs its own state, and they repeat themselves without end
    while Kafka is away. Kept is what is critical, and why one of their services crashed, which nobody else says.

    A subclass of one of Faust's services logs as the module that it stands in, so weir's own events are told from
    them by their form: structlog hands on a dict.
    """
    if isinstance(record.msg, dict) or not f"{record.name}.".startswith(_FAUST):
        return True
    return record.levelno >= logging.CRITICAL or "Crashed reason=" in str(record.msg)


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger; `log.info("feed.connected", url=url)`: a dotted event name, then its facts."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(name))


class Limited:
    """Says what strangers can cause: each event once a second at most, with how often it has happened since it was
    last said (`times`). `clock` gives seconds, monotonic."""

    def __init__(
        self, logger: structlog.typing.FilteringBoundLogger, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger, self._clock = logger, clock
        self._said: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def info(self, event: str, **facts: object) -> None:
        """Says it at this level, or counts it."""
        if times := self._due(event):
            self._logger.info(event, times=times, **facts)

    def warning(self, event: str, **facts: object) -> None:
        """Says it at this level, or counts it."""
        if times := self._due(event):
            self._logger.warning(event, times=times, **facts)

    def error(self, event: str, **facts: object) -> None:
        """Says it at this level, or counts it."""
        if times := self._due(event):
            self._logger.error(event, times=times, **facts)

    def _due(self, event: str) -> int:
        """How often it has happened, where it is to be said now; else 0."""
        now, times = self._clock(), self._unsaid.get(event, 0) + 1
        if now - self._said.get(event, -1.0e9) < 1.0:
            self._unsaid[event] = times
            return 0
        self._said[event], self._unsaid[event] = now, 0
        return times
