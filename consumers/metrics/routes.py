"""The HTTP API of metrics: what the last N minutes come to, from memory."""

from __future__ import annotations

from aiohttp import web

from weir.consumers.metrics.answers import MetricAnswers
from weir.consumers.metrics.requests import parse, type_of
from weir.consumers.metrics.revisions import MetricView
from weir.infra.errors import OverloadError
from weir.infra.http.parameters import BadRequestError
from weir.infra.http.responses import bad_request, json_response, not_found, unavailable
from weir.infra.http.waiting import behind, parse_after, wait_for
from weir.infra.progress.progress import BehindError, Lag

UNKNOWN = (
    "no event of this type in the last day has been counted; one that was accepted a moment ago may still be on its "
    "way: `?after=now` waits for it"
)


class AggregatesApi:
    """Routes of `GET /aggregates`, to add to an application.

    While the view is being rebuilt, what is there is answered, with how far behind it is; a type that is not there yet
    gets 503 then, not 404.
    """

    def __init__(self, view: MetricView, answers: MetricAnswers) -> None:
        self._view = view
        self._answers = answers

    def routes(self) -> list[web.RouteDef]:
        """`GET /aggregates` and `GET /aggregates/{event_type}`."""
        return [web.get("/aggregates", self._all), web.get("/aggregates/{event_type:.*}", self._one)]

    async def _all(self, request: web.Request) -> web.Response:
        try:
            minutes, event_type = parse(request.query.items())
        except BadRequestError as e:
            return bad_request(e)
        return await self._answer(request, minutes, event_type)

    async def _one(self, request: web.Request) -> web.Response:
        try:
            minutes, event_type = parse(request.query.items(), type_of(request.rel_url.raw_path))
        except BadRequestError as e:
            return bad_request(e)
        return await self._answer(request, minutes, event_type)

    async def _answer(self, request: web.Request, minutes: int, event_type: str | None) -> web.Response:
        try:
            after = parse_after(request.query.items())
            await wait_for(self._view.progress, after)
        except BadRequestError as e:
            return bad_request(e)
        except (BehindError, OverloadError) as e:
            return behind(e, self._view.lag())
        if after is not None:
            await self._answers.take_in()
        lag = self._view.lag()
        if not self._view.has_anything:
            return _starting(lag)
        try:
            if event_type is None:
                body = await self._answers.all(minutes, fresh=after is not None)
            elif self._answers.knows(event_type):
                body = await self._answers.one(event_type, minutes)
            elif not self._view.caught_up:
                return _starting(lag)
            else:
                return not_found(UNKNOWN, lag=lag)
        except OverloadError as e:
            return unavailable(str(e), status=None)
        return json_response(200, body)


def _starting(lag: Lag) -> web.Response:
    """Asking again later helps: the view is being rebuilt."""
    return unavailable("what is known of metrics is being read back from Kafka", status="starting", lag=lag)
