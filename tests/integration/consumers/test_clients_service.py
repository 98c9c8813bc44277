"""`weir run monitoring` and its view in memory: resets, bad records, and topics or a Kafka that go away."""

from __future__ import annotations

import json
import signal

import msgspec
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from support.command import started, weir
from support.monitoring.monitoring_service import TOPICS, Api, event, monitoring, total, write
from support.servers.own_servers import own
from support.wait import PATIENCE_S, until
from weir.infra import config as configuration
from weir.infra.config import Config
from weir.infra.kafka import client as clients
from weir.infra.ports import free_ports
from weir.infra.runtime.status import read_all
from weir.infra.servers.kafka import KafkaServer
from weir.schemas.topics import MONITORING_SERIES, MONITORING_TOTALS


def test_a_running_service_forgets_what_a_reset_has_deleted(environ: dict[str, str], monitored: Config) -> None:
    write(monitored, total("a", "requests", "1"), *(event("a", "cpu", n) for n in range(10)), event("gone", "cpu", 1))
    with monitoring(environ, monitored) as (api, service):
        assert len(api.ids("a", "cpu")) == 10
        done = weir(environ, "reset", "monitoring", "--yes", "--yes")
        assert (done.returncode, done.stderr) == (0, b"")
        write(monitored, *(event("a", "cpu", n) for n in range(3)))  # recounted, at other offsets
        service.wait_for_error_line(b"view.begins_anew")
        until(lambda: api.ids("a", "cpu") == ["e0", "e1", "e2"])
        assert api.data("a").keys() == {"cpu"}
        assert api.client("gone").status == 404
        write(monitored, total("a", "requests", "7"))
        until(lambda: "requests" in api.data("a"))
        assert service.err.count(b"view.begins_anew") <= 2  # one topic is emptied after the other


def test_what_is_written_in_a_transaction_is_seen_once_it_is_committed(
    environ: dict[str, str], monitored: Config
) -> None:
    producer = clients.producer(monitored, **{"transactional.id": monitored.topic("test")})
    producer.init_transactions(30)
    with monitoring(environ, monitored) as (api, service):
        producer.begin_transaction()
        write(monitored, event("a", "cpu", 1), producer=producer)
        assert api.client("a").status == 404
        producer.commit_transaction(30)
        until(lambda: api.ids("a", "cpu") == ["e1"])
        producer.begin_transaction()
        write(monitored, event("a", "cpu", 2), producer=producer)
        until(lambda: api.client("a").body["lag"] == {"records": 0, "ms": 0})
        producer.abort_transaction(30)
        write(monitored, event("b", "cpu", 3))
        until(lambda: api.ids("b", "cpu") == ["e3"])
        until(lambda: api.client("a").body["lag"] == {"records": 0, "ms": 0})
        assert api.ids("a", "cpu") == ["e1"]
        assert not any(b"view.begins_anew" in line for line in service.err)


def test_a_record_that_no_job_writes_is_left_out_and_told(environ: dict[str, str], monitored: Config) -> None:
    producer = clients.producer(monitored)
    good = msgspec.json.encode(event("a", "cpu", 1))
    for topic, value in (
        *((MONITORING_SERIES, bad) for bad in (b"", None, b"{", b"\xff", good.replace(b"TIME-SERIES", b"CUMULATIVE"))),
        (MONITORING_SERIES, good.replace(b'"event_timestamp":1', b'"event_timestamp":-1')),
        (MONITORING_SERIES, good.replace(b'"event_timestamp":1', b'"event_timestamp":99999999999999999999')),
        (MONITORING_TOTALS, msgspec.json.encode(total("a", "sum", "NaN"))),
        (MONITORING_TOTALS, msgspec.json.encode(total("a", "sum", "1", 0))),
        (MONITORING_SERIES, good),
    ):
        producer.produce(monitored.topic(topic.name), value, b"key")
    assert producer.flush(30) == 0
    with monitoring(environ, monitored) as (api, service):
        assert api.ids("a", "cpu") == ["e1"]
        assert api.get("/health").body["clients"]["unreadable"] == 9
        assert any(b"view.unreadable" in line for line in service.err)


def test_a_topic_that_is_made_again_or_gets_more_partitions_is_noticed(
    environ: dict[str, str], monitored: Config
) -> None:
    series = monitored.topic(MONITORING_SERIES.name)
    admin = clients.admin(monitored)
    write(monitored, total("a", "sum", "1"), *(event(f"c{n}", "cpu", n) for n in range(50)))
    with monitoring(environ, monitored) as (api, service):
        assert len(api.get("/clients").body["clients"]) == 51
        admin.create_partitions([NewPartitions(series, 6)])[series].result()
        producer = clients.producer(monitored)
        for partition in (4, 5):
            value = msgspec.json.encode(event("new", "cpu", partition))
            until(lambda: topic_has(monitored, series, 6))
            producer.produce(series, value, partition=partition)
        assert producer.flush(30) == 0
        until(lambda: api.ids("new", "cpu") == ["e4", "e5"])
        assert len(api.get("/clients").body["clients"]) == 52
        admin.delete_topics([series])[series].result()
        until(lambda: not topic_has(monitored, series, 6))
        clients.ensure_topics(monitored, TOPICS)
        write(monitored, *(event(f"d{n}", "cpu", n) for n in range(100)))
        until(lambda: any(b"view.begins_anew" in line for line in service.err))
        until(lambda: len(api.get("/clients").body.get("clients", ())) == 101)
        assert api.data("a")["sum"]["event_value"] == 1
        assert api.client("c1").status == 404


def topic_has(config: Config, name: str, partitions: int) -> bool:
    found = clients.admin(config).list_topics(timeout=PATIENCE_S).topics.get(name)
    return found is not None and len(found.partitions) == partitions


def test_records_that_are_deleted_before_they_were_read_are_told(environ: dict[str, str], monitored: Config) -> None:
    """A service that stood still while retention went past where it was."""
    series = monitored.topic(MONITORING_SERIES.name)
    write(monitored, *(event("a", "cpu", n) for n in range(10)))
    with monitoring(environ, monitored) as (api, service):
        service.process.send_signal(signal.SIGSTOP)
        write(monitored, *(event("a", "cpu", n, json.dumps("x" * 10_000)) for n in range(10, 5_000)))
        ends = {p: clients.consumer(monitored).get_watermark_offsets(TopicPartition(series, p))[1] for p in range(4)}
        trim = [TopicPartition(series, p, end) for p, end in ends.items()]
        admin = clients.admin(monitored)
        for future in admin.delete_records(trim).values():
            future.result()
        write(monitored, event("a", "cpu", 9_999))
        service.process.send_signal(signal.SIGCONT)
        until(lambda: "e9999" in api.ids("a", "cpu"))
        until(api.is_healthy)
        facts = api.get("/health").body["clients"]
        assert facts["deleted"] > 0
        assert facts["events"] + facts["deleted"] == 5_001
        assert facts["read"] == facts["events"]


@pytest.mark.long
def test_it_starts_before_kafka_and_answers_from_memory_while_that_is_away(environ: dict[str, str]) -> None:
    port, controller = free_ports(2)
    mine = {name: value for name, value in environ.items() if name != "WEIR_KAFKA"}
    mine |= {"WEIR_KAFKA_PORT": str(port), "WEIR_KAFKA_CONTROLLER_PORT": str(controller)}
    config = configuration.load(mine)
    with started(mine, "run", "monitoring") as service:
        service.wait_for_error_line(b"http.listening")
        api = Api(config)
        for path in ("/clients", "/clients/a", "/health"):
            answer = api.get(path)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert answer.body["lag"] == {"records": None, "ms": None}
        with own(KafkaServer(config)) as server:
            until(api.is_healthy)
            write(config, event("a", "cpu", 1))
            until(lambda: api.ids("a", "cpu") == ["e1"])
            server.kill()
            until(lambda: api.get("/health").status == 503)
            answer = api.get("/health")
            assert (answer.body["status"], answer.headers["Retry-After"]) == ("waiting", "1")
            assert api.ids("a", "cpu") == ["e1"]
            assert api.client("a").body["lag"]["ms"] > 0
            until(lambda: api.client("a").body["lag"]["records"] is None)  # unknown, not 0
            behind = api.client("a", after="now", wait=1)
            assert (behind.status, behind.body["status"], behind.body["lag"]["records"]) == (503, "behind", None)
            assert api.client("b").status == 404
            until(lambda: [s.state for s in read_all(config) if s.name == "monitoring"] == ["waiting"])
            server.start()
            write(config, event("a", "cpu", 2))
            until(lambda: api.ids("a", "cpu") == ["e1", "e2"])
            until(api.is_healthy)
            assert not any(b"view.begins_anew" in line for line in service.err)
            server.kill()
            until(lambda: api.get("/health").status == 503)
            service.terminate()
            assert [s for s in read_all(config) if s.name == "monitoring"] == []


def test_a_port_that_is_taken_is_one_line_and_exit_code_1(environ: dict[str, str], monitored: Config) -> None:
    with monitoring(environ, monitored):
        result = weir(environ, "run", "monitoring")
        assert result.returncode == 1
        assert b"WEIR_MONITORING_PORT" in result.stderr.splitlines()[-1]
