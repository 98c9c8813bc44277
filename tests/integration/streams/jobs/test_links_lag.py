"""The HTTP API says how far the windows in Postgres are behind the calls, and which tables there are."""

from __future__ import annotations

from support.command import started
from support.http.table_client import Answer, get
from support.wait import until
from weir.infra import postgres
from weir.infra.config import Config
from weir.infra.kafka.client import ensure_topics, producer


def test_calls_that_nobody_has_counted_and_stored_are_in_the_lag_of_links(
    environ: dict[str, str], config: Config
) -> None:
    ensure_topics(config)
    postgres.migrate(config)
    client = producer(config)
    for number in range(3):
        call = f'{{"source": "a{number}", "destination": "b"}}'
        client.produce(config.topic("communications"), call, partition=number % config.kafka.partitions)
    assert client.flush(30) == 0
    address = f"http://127.0.0.1:{config.api.port}"

    def links() -> Answer:
        return get(address, "/links")

    def table(name: str) -> dict[str, object]:
        [found] = [table for table in get(address, "/tables").body["tables"] if table["table"] == name]
        return dict(found)

    with started(environ, "run", "api") as api:
        api.wait_for_error_line(b"api.running")
        until(lambda: links().headers["Weir-Lag"] == "records=3")
        assert links().body == []
        assert (links().status, get(address, "/links?after=now").body["error"]["field"]) == (200, "after")

        link_counts = {
            "table": "link-counts",
            "job": "links",
            "description": "Calls per window and pair of parents; the latest per key is the truth",
            "key": ["source", "destination"],
            "windows": True,
            "address": "/tables/link-counts/{source}/{destination}{?window}",
        }
        assert table("link-counts") == link_counts | {"state": "stopped", "workers": 0, "lag": {"records": None}}
        unknown = get(address, "/tables/link-count/a/b")
        assert unknown.status == 404
        assert "link-counts, metric-aggregates, monitoring-ids, monitoring-state" in unknown.body["error"]["reason"]
        stopped = get(address, "/tables/link-counts/a/b")
        assert (stopped.status, stopped.headers["Retry-After"]) == (503, "1")

        with started(environ, "run", "link-store"), started(environ, "worker", "links"):
            until(lambda: links().headers["Weir-Lag"] == "records=0, ms=0")
            running = link_counts | {"state": "running", "workers": 1, "lag": {"records": 0}}
            until(lambda: table("link-counts") == running)
            assert get(address, "/tables/link-counts").body == running
