"""Settings of the tenants' analytics, and of the archive of their events."""

from __future__ import annotations

import re
from dataclasses import dataclass

from weir.infra.config.settings import Section, duration, setting, whole


def archive_url(text: str) -> str:
    """A place for the archive, without a slash at its end. Raises ValueError.

    >>> archive_url("s3://bucket/weir/"), archive_url("file:///var/archive")
    ('s3://bucket/weir', 'file:///var/archive')
    """
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[^?#@]*)?|file:///[^?#]+", text) or "//" in text[len("file://") :]:
        raise ValueError("must be s3://bucket/prefix or file:///path")
    return text.rstrip("/")


@dataclass(frozen=True)
class AnalyticsConfig(Section):
    """Which events of tenants are stored, and what of the answers is kept."""

    cache: int = whole(
        "WEIR_ANALYTICS_CACHE", 64 << 20, 0, 1 << 40,
        "bytes of answers that the HTTP API keeps in memory, where WEIR_REDIS is not set",
    )  # fmt: skip
    max_skew: int = duration("WEIR_ANALYTICS_MAX_SKEW", "1h", "how far ahead of the clock a tenant's event may be")
    max_age: int = duration("WEIR_ANALYTICS_MAX_AGE", "3650d", "how far behind the clock a tenant's event may be")


@dataclass(frozen=True)
class ArchiveConfig(Section):
    """`url` is None where there is no archive."""

    url: str | None = setting(
        "WEIR_ARCHIVE", None, archive_url, "where `weir archive` puts old events: s3://bucket/prefix or file:///path"
    )
