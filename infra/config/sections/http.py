"""Settings of every HTTP server, and of the HTTP API."""

from __future__ import annotations

from dataclasses import dataclass

from weir.infra.config.settings import Section, duration, port, whole


@dataclass(frozen=True)
class HttpConfig(Section):
    """Limits of one HTTP server."""

    connections: int = whole("WEIR_HTTP_CONNECTIONS", 4_000, 1, 1_000_000, "the most HTTP connections to one process")
    per_address: int | None = whole(
        "WEIR_HTTP_PER_ADDRESS", None, 1, 1_000_000,
        "the most of them from one address; not set: a quarter, and from loopback all, for a proxy's sake",
    )  # fmt: skip
    head: int = duration("WEIR_HTTP_HEAD", "5s", "how long the head of an HTTP request may take to come", "100ms")
    idle: int = duration("WEIR_HTTP_IDLE", "75s", "how long an HTTP connection is kept without a request", "100ms")
    write: int = duration(
        "WEIR_HTTP_WRITE", "30s",
        "how long a client may take for 256 KiB of an answer before its connection is cut", "100ms",
    )  # fmt: skip
    answers: int = whole(
        "WEIR_HTTP_ANSWERS", 64 << 20, 1024, 1 << 36,
        "bytes of answers that clients have not read yet; beyond it they get 503",
    )  # fmt: skip


@dataclass(frozen=True)
class ApiConfig(Section):
    """The HTTP API."""

    port: int = port("WEIR_API_PORT", 3, 8000, "the HTTP API's port (GET /links, /analytics, /health)")
