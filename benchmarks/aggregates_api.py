"""GET /aggregates?minutes=60 over a thousand types while their minutes are revised, beside GET /health in the same run.

    python -m benchmarks.aggregates_api [--types 1000] [--minutes 60] [--pace 1000] [--rate 50] [--seconds 90]

An hour of all types is in metric-aggregates, each minute with full sketches, as 100 000 events a second make them;
`weir run metrics` reads it, and `--pace` cells a second are revised (benchmarks/aggregates_cells.py). Requests come at
a steady rate from a process of their own (benchmarks/aggregates_driver.py). All share this machine with Kafka. The bar
is 20 ms at p99.

`first_ms` is the first answer of all, as soon as the view is whole, and `cold_ms` one for a number of minutes that
nobody has asked for before; `age_ms` is how old the answers were by their `as_of`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
from typing import Any

import psutil

from benchmarks import bench
from weir.infra.config import Config
from weir.infra.ports import free_ports


def cells(config: Config, *options: object) -> subprocess.Popen[bytes]:
    command = ["--kafka", config.kafka.bootstrap, "--prefix", config.kafka.topic_prefix, *map(str, options)]
    return subprocess.Popen([sys.executable, "-m", "benchmarks.aggregates_cells", *command], stdout=subprocess.PIPE)


def written(process: subprocess.Popen[bytes]) -> int:
    out, _ = process.communicate(timeout=600)
    if process.returncode:
        raise SystemExit("the cells could not be written")
    return int(out)


def ask(config: Config, path: str) -> Any:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{config.metrics.port}{path}", timeout=60) as answer:
            return json.load(answer)
    except OSError:  # not there yet, or 503
        return None


def measure(config: Config, a: argparse.Namespace) -> dict[str, Any]:
    before = written(cells(config, "--types", a.types, "--fill", a.minutes))
    environ = dict(os.environ) | {
        "WEIR_HOME": str(config.home),
        "WEIR_KAFKA": config.kafka.bootstrap,
        "WEIR_TOPIC_PREFIX": config.kafka.topic_prefix,
        "WEIR_METRICS_PORT": str(config.metrics.port),
        "WEIR_LOG_LEVEL": "warning",
    }
    begun = time.monotonic()
    service = subprocess.Popen([sys.executable, "-m", "weir", "run", "metrics"], env=environ)
    try:
        bench.wait_until(lambda: ask(config, "/health") is not None, "the view is whole")
        assert ask(config, "/health")["aggregates"]["read"] == before
        found: dict[str, Any] = {"types": a.types, "cells": before, "start_s": round(time.monotonic() - begun, 1)}
        reviser = cells(config, "--types", a.types, "--pace", a.pace, "--seconds", a.seconds + 10)
        begun = time.monotonic()
        assert len(ask(config, f"/aggregates?minutes={a.minutes}")["aggregates"]) == a.types
        found["first_ms"] = round((time.monotonic() - begun) * 1000)
        time.sleep(5)
        process = psutil.Process(service.pid)
        begun, cpu = time.monotonic(), sum(process.cpu_times()[:2])
        command = ["--port", config.metrics.port, "--minutes", a.minutes, "--types", a.types, "--rate", a.rate]
        out = subprocess.run(
            [sys.executable, "-m", "benchmarks.aggregates_driver", *map(str, command), "--seconds", str(a.seconds)],
            stdout=subprocess.PIPE, check=True,
        ).stdout  # fmt: skip
        found |= json.loads(out)
        found["cpu"] = round((sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - begun), 2)
        found["rss_mb"] = process.memory_info().rss >> 20
        begun = time.monotonic()
        assert len(ask(config, f"/aggregates?minutes={a.minutes - 1}")["aggregates"]) == a.types
        found["cold_ms"] = round((time.monotonic() - begun) * 1000)
        found["revised"] = written(reviser)
        return found
    finally:
        service.terminate()
        service.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--types", type=int, default=1000)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--pace", type=float, default=1000.0)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=90.0)
    a = parser.parse_args()
    (port,) = free_ports(1)
    with bench.kafka(WEIR_METRICS_PORT=port) as config:
        # A Kafka of our own is told where it is by its address.
        print(json.dumps(measure(config.replace(WEIR_KAFKA=config.kafka.bootstrap), a)), flush=True)


if __name__ == "__main__":
    main()
