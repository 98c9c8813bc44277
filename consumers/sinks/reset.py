"""Empties the tables of sinks whose topics are being written anew from the beginning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import psycopg
from psycopg import sql

from weir.consumers.sinks.table import Table
from weir.infra import postgres
from weir.infra.config import Config
from weir.schemas.topic import Topic


def affected(stores: Mapping[str, Sequence[Table]], topics: Iterable[Topic]) -> dict[str, list[Table]]:
    """Returns, per sink, its tables that are made of any of these topics."""
    names = {topic.name for topic in topics}
    found = {sink: [table for table in tables if table.topic.name in names] for sink, tables in stores.items()}
    return {sink: tables for sink, tables in found.items() if tables}


def empty(config: Config, stores: Mapping[str, Sequence[Table]]) -> None:
    """Deletes the rows of these tables, and where their sinks were, in one transaction.

    A sink that runs finds that it was overtaken, and begins with what its topics hold now. Raises
    PostgresUnavailableError.
    """
    postgres.migrate(config)
    connection: psycopg.Connection = postgres.connect(config, "weir-reset")
    try:
        with postgres.translated(), connection.transaction():
            for sink, tables in stores.items():
                topics = [config.topic(table.topic.name) for table in tables]
                # The offsets first, as the sink does it: of the two, one waits for the other.
                connection.execute("DELETE FROM sink_offsets WHERE sink = %s AND topic = ANY(%s)", [sink, topics])
                for table in tables:
                    for name in (table.name, *(rollup.name for rollup in table.rollups)):
                        connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))
    finally:
        connection.close()
