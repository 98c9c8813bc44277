"""Settings of the feed: the one that weir connects to, and the one that weir serves."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from weir.infra.config.settings import Section, port, setting


def _feed(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("ws", "wss") or not url.hostname or url.port == 0:
        raise ValueError("must be ws://host:port or wss://host:port, with a path where the feed has one")
    return text


@dataclass(frozen=True)
class FeedConfig(Section):
    """`url` is None where `weir up` connects to no feed."""

    url: str | None = setting(
        "WEIR_FEED_URL", None, _feed, "ws:// address of a feed that `weir up` connects to", secret=True
    )
    port: int = port("WEIR_FEED_PORT", 4, 8765, "where `weir feed serve` listens")
