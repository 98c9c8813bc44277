"""The rest of the error tree: what the ground can do to a service. The root is `schemas.errors.WeirError`.

Three families, because each is handled differently: `RetryableError` (wait and try again), `OverloadError` (slow the
sender down), and `schemas.errors.PoisonError` (set the message aside). What is none of these ends the process
with one line; `exit_code` says how.
"""

from __future__ import annotations

from schemas.errors import PoisonError, WeirError

__all__ = [
    "ArchiveDamagedError",
    "ArchiveUnavailableError",
    "ConfigError",
    "DataRefusedError",
    "DiskFullError",
    "DownloadError",
    "FeedBrokenError",
    "FeedClosedError",
    "ForeignDataError",
    "KafkaUnavailableError",
    "OffsetLostError",
    "OverloadError",
    "PoisonError",
    "PortTakenError",
    "PostgresUnavailableError",
    "RetryableError",
    "ServerFailedError",
    "StartError",
    "WeirError",
]


class ConfigError(WeirError):
    """A setting is unknown or has a value that cannot be used."""


class RetryableError(WeirError):
    """It did not work this time; it may the next."""


class KafkaUnavailableError(RetryableError):
    """Kafka does not answer."""


class PostgresUnavailableError(RetryableError):
    """Postgres does not answer."""


class ArchiveUnavailableError(RetryableError):
    """The place of the archive cannot be read or written."""


class ArchiveDamagedError(ArchiveUnavailableError):
    """A file of the archive is not what was written: it works again once the file is put back."""


class DataRefusedError(WeirError):
    """Postgres refuses a value."""


class FeedBrokenError(RetryableError):
    """The connection to the feed broke."""


class FeedClosedError(WeirError):
    """The connection to the feed was closed on purpose."""


class OffsetLostError(WeirError):
    """Records were deleted from a topic before they were read."""


class OverloadError(WeirError):
    """More came in than can be taken right now."""


class StartError(WeirError):
    """An embedded server could not be started."""


class PortTakenError(StartError):
    """A port is taken by another program."""


class ForeignDataError(StartError):
    """A data folder was written by another version."""


class DiskFullError(StartError):
    """No space is left where the data is kept."""


class DownloadError(StartError):
    """The first-time download did not succeed."""


class ServerFailedError(StartError):
    """An embedded server ended, or did not answer in time."""
