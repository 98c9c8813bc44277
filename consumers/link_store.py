"""The links job's results in Postgres: the sink `link-store`."""

from __future__ import annotations

from consumers.link_tables import LINK_TABLES
from consumers.sink import Sink
from infra.config import Config

NAME = "link-store"


def link_store(config: Config) -> Sink:
    """The sink of topics link-counts and link-windows."""
    return Sink(config, NAME, LINK_TABLES)
