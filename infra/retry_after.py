"""When a client that was turned away may come again: the header Retry-After (RFC 9110, 10.2.3), in one place."""

from __future__ import annotations


def retry_after(seconds: int) -> dict[str, str]:
    """The header, in whole seconds.

    >>> retry_after(7)
    {'Retry-After': '7'}
    """
    return {"Retry-After": str(seconds)}


#: Where what is in the way passes by itself: a start, a crowd, a queue.
RETRY_SOON: dict[str, str] = retry_after(1)
#: Where a server is away, or there are as many connections as there may be.
RETRY_LATER: dict[str, str] = retry_after(5)
