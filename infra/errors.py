"""The rest of the error tree: what the ground can do to a service. The root is `weir.schemas.errors.WeirError`.

Three families, because each is handled differently: `RetryableError` (wait and try again), `OverloadError` (slow the
sender down), and `weir.schemas.errors.PoisonError` (set the message aside). What is none of these ends the process
with one line; `exit_code` says how.
"""

from __future__ import annotations

from weir.schemas.errors import PoisonError, WeirError

__all__ = [
    "ArchiveDamagedError",
    "ArchiveUnavailableError",
    "ConfigError",
    "DataRefusedError",
    "DiskFullError",
    "DownloadError",
    "FeedBrokenError",
    "FeedClosedError",
    "FencedError",
    "ForeignDataError",
    "InDoubtError",
    "KafkaUnavailableError",
    "LoginLostError",
    "MissingExtraError",
    "NoKafkaError",
    "NoPostgresError",
    "OffsetLostError",
    "OverloadError",
    "PoisonError",
    "PortTakenError",
    "PostgresRefusesError",
    "PostgresUnavailableError",
    "RetryableError",
    "ServerFailedError",
    "StartError",
    "StoppedError",
    "TopicMissingError",
    "TransactionAbortedError",
    "WeirError",
]


class ConfigError(WeirError):
    """A setting is unknown or has a value that cannot be used."""


class MissingExtraError(WeirError):
    """Raised when an optional package is needed and not installed."""


class RetryableError(WeirError):
    """Raised when an operation failed for now and may succeed when it is retried."""


class KafkaUnavailableError(RetryableError):
    """Raised when Kafka does not answer, or cannot serve for now."""


class NoKafkaError(KafkaUnavailableError):
    """Raised when no server accepts connections at Kafka's address."""


class TopicMissingError(KafkaUnavailableError):
    """Raised when Kafka lacks a topic or a partition: it is being created or deleted, or was never created.

    It may come, so it is waited for; whoever waits says the topic's name, and gives up after a while.
    """


class PostgresUnavailableError(RetryableError):
    """Postgres does not answer."""


class NoPostgresError(PostgresUnavailableError):
    """Raised when no server accepts connections at Postgres' address."""


class PostgresRefusesError(PostgresUnavailableError):
    """Postgres answers, and does not take what the address says: a person has to change one or the other."""


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
    """Records were deleted from a topic before they were read.

    `partition` is the topic, without the prefix, and the partition, where that is known.
    """

    def __init__(self, message: str, partition: tuple[str, int] | None = None) -> None:
        super().__init__(message)
        self.partition = partition


class FencedError(WeirError):
    """Another process has taken over this one's transactional id (KIP-98)."""


class TransactionAbortedError(WeirError):
    """The transaction was aborted: nothing of it was written."""


class InDoubtError(TransactionAbortedError):
    """Whether the transaction was committed is unknown; the next owner of its id ends it one way or the other."""


class StoppedError(WeirError):
    """Given up, since nobody wants it any more."""


class OverloadError(WeirError):
    """Raised when more requests arrive than can be taken right now."""


class StartError(WeirError):
    """An embedded server could not be started."""


class LoginLostError(StartError):
    """The embedded Postgres does not let weir in: its password was changed. Its next start sets the login up anew."""


class PortTakenError(StartError):
    """A port is taken by another program."""


class ForeignDataError(StartError):
    """A data folder was written by another version."""


class DiskFullError(StartError):
    """Raised when the disk that holds the data is full."""


class DownloadError(StartError):
    """The first-time download did not succeed."""


class ServerFailedError(StartError):
    """An embedded server ended, or did not answer in time."""
