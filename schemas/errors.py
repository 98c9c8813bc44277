"""The root of weir's error tree, and the errors a message itself can cause.

Every error weir raises on purpose derives from `WeirError`; the docstring of a class is its default message. The
rest of the tree (servers, configuration, overload) is in `infra.errors`.
"""

from __future__ import annotations


class WeirError(Exception):
    """Something went wrong in weir."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


class PoisonError(WeirError):
    """This message can never be processed, however often it is tried.

    `reason` is one of `schemas.dead_letters.Reason`; the message is the detail a person reads.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class UnknownTopicError(WeirError):
    """There is no topic of that name."""
