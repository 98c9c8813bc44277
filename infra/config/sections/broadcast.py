"""Settings of the broadcast: its listener, its broadcaster, and their WebSocket connections."""

from __future__ import annotations

import re
from dataclasses import dataclass

from weir.infra.config.settings import Section, duration, port, setting, whole


def _origins(text: str) -> str:
    """`Origin` headers (RFC 6454) with commas between them, as browsers write them: in lower case, without a path."""
    origins = [origin.strip().lower() for origin in text.split(",")]
    if not all(re.fullmatch(r"null|[a-z][a-z0-9+.-]*://[^/?#@\s]+", origin) for origin in origins):
        raise ValueError("must be scheme://host[:port], or several with commas between them")
    return ",".join(origins)


@dataclass(frozen=True)
class BroadcastConfig(Section):
    """The broadcast's ports, credentials and limits."""

    listener_port: int = port("WEIR_LISTENER_PORT", 5, 8080, "where `weir run listener` takes messages in")
    broadcaster_port: int = port("WEIR_BROADCASTER_PORT", 6, 8081, "where `weir run broadcaster` hands messages out")
    port: int = port("WEIR_BROADCAST_PORT", 7, 3000, "where both are, under /ws/manager and /ws/broadcast")
    user: str = setting("WEIR_BROADCAST_USER", "user", str, "who may send a broadcast (HTTP Basic)")
    password: str = setting(
        "WEIR_BROADCAST_PASSWORD", "pwd", str, "the password of WEIR_BROADCAST_USER", secret=True,
        write=lambda password: "***",
    )  # fmt: skip
    max_message: int = whole(
        "WEIR_BROADCAST_MAX_MESSAGE", 262_144, 1, 1_000_000, "the longest broadcast message, in bytes"
    )
    queue: int = whole(
        "WEIR_BROADCAST_QUEUE", 1 << 20, 1024, 1 << 30,
        "bytes that may wait for one slow subscriber before it is closed",
    )  # fmt: skip
    memory: int = whole(
        "WEIR_BROADCAST_MEMORY", 64 << 20, 0, 1 << 36,
        "bytes of the latest messages that a broadcaster keeps for those who resume",
    )  # fmt: skip
    connections: int = whole("WEIR_BROADCAST_CONNECTIONS", 20_000, 1, 1_000_000, "the most connections to one process")
    per_address: int | None = whole(
        "WEIR_BROADCAST_PER_ADDRESS", None, 1, 1_000_000,
        "the most from one address; not set: WEIR_BROADCAST_CONNECTIONS, for proxies' sake",
    )  # fmt: skip
    origins: str | None = setting(
        "WEIR_BROADCAST_ORIGINS", None, _origins,
        "the pages whose browsers may connect: scheme://host[:port],…; not set: any",
    )  # fmt: skip
    idle: int = duration(
        "WEIR_BROADCAST_IDLE", "4s",
        "a peer that is silent for so long is pinged, and dropped after as long again", "100ms",
    )  # fmt: skip
