"""`?after=POSITION&wait=SECONDS`: a question that is answered once the answer has a position."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aiohttp import web

from weir.infra.http.parameters import BadRequestError, parse_int
from weir.infra.http.responses import unavailable
from weir.infra.progress.position import BadPositionError, Position, from_text
from weir.infra.progress.progress import Lag, Progress

#: The parameters' names.
WAITING = ("after", "wait")
#: What `after` is besides a position: all that Kafka has when the question comes.
NOW = "now"
#: How long an answer is waited for, in seconds, where the question does not say, and at most.
DEFAULT_S, MAX_S = 10, 60


class After(NamedTuple):
    """A position that an answer has to include, and the seconds to wait for it; `position` None: everything Kafka has
    now.
    """

    position: Position | None
    seconds: int


def parse_after(parameters: Iterable[tuple[str, str]]) -> After | None:
    """Parses the parameters `after` and `wait` of a request; returns None without them. Raises BadRequestError.

    >>> parse_after([("limit", "5"), ("after", "now"), ("wait", "3")]), parse_after([("limit", "5")])
    (After(position=None, seconds=3), None)
    """
    params = {name: value for name, value in parameters if name in WAITING}
    if "after" not in params:
        if "wait" in params:
            raise BadRequestError("wait", "needs `after`: it limits how long to wait for that position")
        return None
    seconds = parse_int("wait", params.get("wait", str(DEFAULT_S)), MAX_S)
    if params["after"] == NOW:
        return After(None, seconds)
    try:
        return After(from_text(params["after"]), seconds)
    except BadPositionError as e:
        raise BadRequestError("after", f"{e}; `{NOW}` is allowed as well") from e


async def wait_for(progress: Progress, after: After | None) -> None:
    """Returns once an answer has what `after` says. Raises BadRequestError for a position that the topic does not have,
    BehindError where it takes too long, OverloadError where too many wait.
    """
    if after is None:
        return
    try:
        await progress.wait(after.position, after.seconds)
    except BadPositionError as e:
        raise BadRequestError("after", str(e)) from e


def behind(error: Exception, lag: Lag) -> web.Response:
    """503: asking again later helps. `error` is a BehindError or an OverloadError."""
    return unavailable(str(error), status="behind", lag=lag)
