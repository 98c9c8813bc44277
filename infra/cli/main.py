"""The command `weir`: every module here registers its own subcommands, and imports no driver before it runs."""

from __future__ import annotations

import os
import sys

import typer

from infra.cli import (
    analytics_store,
    archive,
    broadcast,
    config,
    dead_letters,
    demo,
    feed,
    ledger,
    links,
    metrics,
    monitoring,
    produce,
    reset,
    send,
    simulate,
    status,
    subscribe,
    tail,
    topics,
    trim,
    up,
    worker,
)
from schemas.errors import WeirError

app = typer.Typer(
    name="weir",
    help="Exact, fast stream processing on Kafka.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for module in (
    up, status, demo, feed, worker, reset, ledger, links, broadcast, monitoring, metrics, analytics_store, send,
    subscribe, simulate, produce, tail, topics, trim, dead_letters, archive, config,
):  # fmt: skip
    module.register(app)


def main() -> None:
    """Runs the command line. An error of weir's own is one line on stderr and exit code 1."""
    try:
        app()
    except WeirError as e:
        if os.environ.get("WEIR_LOG_LEVEL") == "debug":
            raise
        print(f"weir: {e}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
