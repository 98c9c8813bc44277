"""`docker-compose.yml` as the registries have it: servers, and a container for each service that `weir up` runs.

`make compose` writes the file, and a test fails where it is another.
"""

from __future__ import annotations

from typing import Any

from weir.infra.config import Config, load
from weir.infra.servers.jars import KAFKA_VERSION
from weir.infra.servers.postgres_programs import POSTGRES_VERSION
from weir.infra.supervisor.service import Service
from weir.services.registry import services

HEADER = """\
# weir on servers of their own: Kafka, Postgres, Redis, and each service in a container.
#
#   docker compose up --build                        plays the sample feed, and shows the counts of each minute
#   FEED_URL=wss://… docker compose up --build       connects a feed of your own
#   BROADCAST_PASSWORD=… docker compose --profile broadcast up --build
#
# Made by `make compose` from the services that weir has: change weir/compose.py, not this file.
# docs/how-to/docker-compose.md says more.
"""

#: Where clients of one's own reach Kafka.
KAFKA_PORT = 9094
#: Where containers without a port of their own serve /readyz and /metrics.
PROBE_PORT = 8100
SAMPLE_PORT = 8765
#: Versions of Redis from here on are not asked for anything new.
REDIS_IMAGE = "redis:8-alpine"

#: All clients from outside have one address here, the network's gateway: an address may have what all may have.
CONNECTIONS = 4000

#: 30 MB of logs for each container.
LOGGING = {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}

COMMON = {
    "WEIR_KAFKA": "kafka:9092",
    "WEIR_POSTGRES": "postgresql://weir:${POSTGRES_PASSWORD:-weir}@postgres:5432/weir",
    "WEIR_LOG_FORMAT": "json",
    "WEIR_HOST": "0.0.0.0",
}

#: What a service has besides: variables, and keys of its block. Memory is what it was seen to need, and room.
VARIABLES: dict[str, dict[str, Any]] = {
    "api": {
        "WEIR_REDIS": "redis://redis:6379/0",
        "WEIR_ARCHIVE": "${ARCHIVE_URL:-file:///var/lib/weir/archive}",
        "AWS_ACCESS_KEY_ID": "${AWS_ACCESS_KEY_ID:-}",
        "AWS_SECRET_ACCESS_KEY": "${AWS_SECRET_ACCESS_KEY:-}",
        "AWS_REGION": "${AWS_REGION:-}",
        "AWS_ENDPOINT_URL": "${AWS_ENDPOINT_URL:-}",
    },
    "feed": {"WEIR_FEED_URL": f"${{FEED_URL:-ws://sample:{SAMPLE_PORT}/}}"},
    "broadcast": {
        "WEIR_BROADCAST_USER": "${BROADCAST_USER:-user}",
        "WEIR_BROADCAST_PASSWORD": "${BROADCAST_PASSWORD:-}",
    },
}
EXTRA: dict[str, dict[str, Any]] = {
    "api": {"volumes": ["archive:/var/lib/weir/archive"], "mem_limit": "1g"},
    "feed": {"extra_hosts": ["host.docker.internal:host-gateway"]},
    "broadcast": {"profiles": ["broadcast"], "mem_limit": "1g"},
    "monitoring": {"mem_limit": "2g"},
    "metrics": {"mem_limit": "1g"},
    "analytics-store": {"mem_limit": "1g"},
}


def document() -> dict[str, Any]:
    """The file as data, in its order."""
    config = load({"WEIR_FEED_URL": "ws://feed/"})
    return {
        "name": "weir",
        "services": {
            "kafka": _kafka(),
            "postgres": _postgres(),
            "redis": _redis(),
            "topics": _block(
                ["weir", "topics", "--create"], depends_on={"kafka": {"condition": "service_healthy"}},
                restart="on-failure",
            ),
            **{service.name: _service(service, config) for service in services()},
            "sample": _block(
                ["weir", "feed", "serve", "--sample", "--loop", "--port", str(SAMPLE_PORT)],
                healthcheck=_healthcheck(f"import socket; socket.create_connection(('127.0.0.1', {SAMPLE_PORT}), 3)"),
            ),
            "counts": _block(["weir", "links", "--follow"], attach=True),
        },
        "volumes": {"kafka": {}, "postgres": {}, "archive": {}},
    }  # fmt: skip


def _service(service: Service, config: Config) -> dict[str, Any]:
    ports = {f"WEIR_{port.upper()}_PORT": config.port(port) for port in service.ports}
    probe = next(iter(ports.values()), PROBE_PORT)
    variables = dict(ports) if ports else {"WEIR_WORKER_PORT": PROBE_PORT}
    if ports and service.scheme == "http":
        variables["WEIR_HTTP_PER_ADDRESS"] = CONNECTIONS
    published = {"ports": [f"127.0.0.1:{port}:{port}" for port in ports.values()]} if ports else {}
    is_worker = not ports and service.name.startswith("worker-")
    return _block(
        ["weir", *service.command(config)],
        variables | VARIABLES.get(service.name, {}),
        healthcheck=_healthcheck(
            f"import urllib.request as u; u.urlopen('http://127.0.0.1:{probe}/readyz', timeout=3)"
        ),
        **published,
        **({"mem_limit": "1g"} if is_worker else {}),
        **EXTRA.get(service.name, {}),
    )


def _block(command: list[str], variables: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A container of weir's image. Its output is not shown by `docker compose up`, unless `attach` says so."""
    return {
        "image": "weir",
        "build": {"context": ".", "dockerfile": "infra/docker/Dockerfile"},
        "command": command,
        "environment": COMMON | (variables or {}),
        "depends_on": {
            "topics": {"condition": "service_completed_successfully"},
            "postgres": {"condition": "service_healthy"},
        },
        "init": True,
        "restart": "unless-stopped",
        "mem_limit": "512m",
        "logging": LOGGING,
        "attach": False,
    } | more


def _healthcheck(code: str) -> dict[str, Any]:
    return {
        "test": ["CMD", "python", "-c", code],
        "interval": "10s",
        "timeout": "5s",
        "retries": 6,
        "start_period": "30s",
    }


def _server(image: str, **more: Any) -> dict[str, Any]:
    return {"image": image, **more, "restart": "unless-stopped", "logging": LOGGING, "attach": False}


def _kafka() -> dict[str, Any]:
    return _server(
        f"apache/kafka:{KAFKA_VERSION}",
        hostname="kafka",
        environment={
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_NODE_ID": 1,
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@kafka:9093",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_LISTENERS": f"PLAINTEXT://:9092,CONTROLLER://:9093,OUTSIDE://:{KAFKA_PORT}",
            "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://kafka:9092,OUTSIDE://localhost:{KAFKA_PORT}",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,OUTSIDE:PLAINTEXT",
            "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
            "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": 1,
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": 1,
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": 1,
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
            "KAFKA_OFFSETS_RETENTION_MINUTES": 525600,
            "KAFKA_HEAP_OPTS": "-Xmx512m",
        },
        ports=[f"127.0.0.1:{KAFKA_PORT}:{KAFKA_PORT}"],
        volumes=["kafka:/var/lib/kafka/data"],
        healthcheck={
            "test": ["CMD", "/opt/kafka/bin/kafka-broker-api-versions.sh", "--bootstrap-server", "kafka:9092"],
            "interval": "10s", "timeout": "10s", "retries": 12,
        },
        mem_limit="1g",
    )  # fmt: skip


def _postgres() -> dict[str, Any]:
    return _server(
        f"postgres:{POSTGRES_VERSION}",
        environment={
            "POSTGRES_USER": "weir",
            "POSTGRES_PASSWORD": "${POSTGRES_PASSWORD:-weir}",
            "POSTGRES_DB": "weir",
        },
        volumes=["postgres:/var/lib/postgresql"],
        healthcheck={
            "test": ["CMD", "pg_isready", "--username=weir", "--dbname=weir"],
            "interval": "5s", "timeout": "5s", "retries": 12,
        },
        mem_limit="1g",
    )  # fmt: skip


def _redis() -> dict[str, Any]:
    return _server(
        REDIS_IMAGE,
        command=["redis-server", "--save", "", "--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru"],
        healthcheck={"test": ["CMD", "redis-cli", "ping"], "interval": "5s", "timeout": "5s", "retries": 12},
        mem_limit="384m",
    )


def text() -> str:
    """The file."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return HEADER + "\n" + yaml.dump(document(), Dumper=Dumper, sort_keys=False, width=160)


if __name__ == "__main__":
    print(text(), end="")
