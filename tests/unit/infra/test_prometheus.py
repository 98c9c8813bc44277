"""The metrics' declarations, and their text as Prometheus' own parser reads it."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families as parse

from weir.infra import prometheus
from weir.infra.prometheus import METRICS, Reading, counted, exposition


def samples(*readings: Reading) -> dict[tuple[str, ...], float]:
    """Parses the readings as Prometheus does; leaves out those of the process itself."""
    families = list(parse(exposition(readings).decode()))
    found = [sample for family in families for sample in family.samples if sample.name.startswith("weir_")]
    return {(s.name, *(f"{name}={value}" for name, value in sorted(s.labels.items()))): s.value for s in found}


def test_every_metric_is_declared_once_and_named_as_prometheus_has_it() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"weir_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") is (metric.kind == "counter")
        assert metric.meaning.endswith(".")


def test_what_is_read_is_what_a_scrape_finds() -> None:
    readings = [
        Reading(prometheus.RECORDS, 17, ("links", "communications", "3")),
        Reading(prometheus.STORE, 0.25, ("link-store",), 2),
        *counted(prometheus.INGESTED, {"accepted": 4, "refused": 1, "sockets": 9}, ("accepted", "refused"), "metrics"),
    ]
    assert samples(*readings) == {
        ("weir_worker_records_total", "job=links", "partition=3", "topic=communications"): 17,
        ("weir_sink_store_seconds_count", "sink=link-store"): 2,
        ("weir_sink_store_seconds_sum", "sink=link-store"): 0.25,
        ("weir_ingest_events_total", "intake=metrics", "outcome=accepted"): 4,
        ("weir_ingest_events_total", "intake=metrics", "outcome=refused"): 1,
    }


def test_a_label_may_hold_anything() -> None:
    odd = 'quote " backslash \\ line\nend'
    assert samples(Reading(prometheus.READY, 1, (odd,))) == {("weir_service_ready", f"service={odd}"): 1}


def test_the_process_tells_of_itself() -> None:
    names = {family.name for family in parse(exposition([]).decode())}
    assert {"process_resident_memory_bytes", "process_cpu_seconds", "process_open_fds"} <= names
