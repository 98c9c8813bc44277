"""The embedded servers, really started."""

from __future__ import annotations

import psycopg

from infra import kafka as clients
from infra.config import Config


def test_a_topic_is_made_and_listed(config: Config) -> None:
    clients.ensure_topics(config)
    assert config.topic("link-counts") in clients.admin(config).list_topics(timeout=10).topics


def test_a_table_lands_in_the_tests_own_schema(config: Config, schema: str) -> None:
    with psycopg.connect(config.dsn) as connection:
        connection.execute("CREATE TABLE t (x int)")
        [(found,)] = connection.execute("SELECT table_schema FROM information_schema.tables WHERE table_name = 't'")
    assert found == schema
