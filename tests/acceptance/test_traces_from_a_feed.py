"""The recorded feed, played at 100 times its speed through a real WebSocket: the truth comes out at every end."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack

import psycopg

from support.command import started
from support.links.traces import FEED, Pair, totals
from support.wait import PATIENCE_S, until
from support.workers import Results
from weir.infra.config import Config


def test_the_totals_per_pair_are_the_truth_in_kafka_in_postgres_and_back_at_the_feed(
    config: Config, environ: dict[str, str]
) -> None:
    url = f"ws://127.0.0.1:{config.feed.port}/"
    expected = totals()
    with ExitStack() as stack:
        for service in (["worker", "links"], ["run", "link-store"], ["feed", "connect", url]):
            stack.enter_context(started(environ, *service))
        feed = stack.enter_context(started(environ, "feed", "serve", str(FEED), "--speed", "100", "--json"))
        code = feed.process.wait(PATIENCE_S)
        feed.end()
        results = Results(config)

        def in_postgres() -> Counter[Pair]:
            with psycopg.connect(config.dsn) as connection:
                rows = connection.execute(
                    "SELECT source, destination, sum(count)::bigint FROM link_counts GROUP BY 1, 2"
                )
                return Counter({(source, destination): count for source, destination, count in rows})

        feed_report = json.loads(feed.out[-1])
        in_kafka: Counter[Pair] = Counter()
        for (_, source, destination), count in results.counts().items():
            in_kafka[source, destination] += count
        assert in_kafka == expected
        until(lambda: in_postgres() == expected)
        assert code == 0, feed_report
        assert feed_report["equal"] is True
        assert results.records("dead-letters") == []
