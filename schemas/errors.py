"""The root of weir's error tree, and the errors a message itself can cause.

Every error weir raises on purpose derives from `WeirError`; the docstring of a class is its default message. The
rest of the tree (servers, configuration, overload) is in `weir.infra.errors`.
"""

from __future__ import annotations


class WeirError(Exception):
    """Root of weir's errors."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


class PoisonError(WeirError):
    """Raised for a message that can never be processed, however often it is tried.

    `reason` is one of `weir.schemas.dead_letters.Reason`; the message is the detail a person reads.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class DuplicateTopicError(WeirError):
    """Two different topics have one name."""


class UnknownTopicError(WeirError):
    """Raised for a name that is not a topic's."""
