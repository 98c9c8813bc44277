"""Settings of the archive of tenants' events."""

from __future__ import annotations

import re
from dataclasses import dataclass

from weir.infra.config.settings import Section, setting


def archive_url(text: str) -> str:
    """A place for the archive, without a slash at its end. Raises ValueError.

    >>> archive_url("s3://bucket/weir/"), archive_url("file:///var/archive")
    ('s3://bucket/weir', 'file:///var/archive')
    """
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[^?#@]*)?|file:///[^?#]+", text) or "//" in text[len("file://") :]:
        raise ValueError("must be s3://bucket/prefix or file:///path")
    return text.rstrip("/")


@dataclass(frozen=True)
class ArchiveConfig(Section):
    """`url` is None where there is no archive."""

    url: str | None = setting(
        "WEIR_ARCHIVE", None, archive_url, "where `weir archive` puts old events: s3://bucket/prefix or file:///path"
    )
