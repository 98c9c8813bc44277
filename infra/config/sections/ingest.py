"""Settings of the ingest endpoints, POST /events and POST /metric-events."""

from __future__ import annotations

from dataclasses import dataclass

from weir.infra.config.settings import Section, whole


@dataclass(frozen=True)
class IngestConfig(Section):
    """Limits of one ingest endpoint."""

    max_body: int = whole("WEIR_INGEST_MAX_BODY", 8 << 20, 1024, 1 << 28, "the longest request body taken in, in bytes")
    in_flight: int = whole(
        "WEIR_INGEST_IN_FLIGHT", 64 << 20, 1024, 1 << 36,
        "bytes of events and of their verdicts that may be in flight; beyond it senders get 429",
    )  # fmt: skip
