"""Answers with a JSON body."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiohttp import web

from weir.infra.http.parameters import BadRequestError
from weir.infra.retry_after import RETRY_SOON


def json_response(status: int, body: object, headers: Mapping[str, str] | None = None) -> web.Response:
    """The body as JSON; `bytes` are JSON already."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return web.Response(status=status, body=content, headers=headers, content_type="application/json")


def bad_request(error: BadRequestError, status: int = 400) -> web.Response:
    """The answer that names the parameter, and says what is wrong with it."""
    return json_response(status, {"error": {"field": error.field, "reason": error.reason}})


def not_found(reason: str, **more: object) -> web.Response:
    """404, with `more` fields of the body."""
    return json_response(404, {"error": {"reason": reason}, **more})


def unavailable(
    reason: str, headers: Mapping[str, str] = RETRY_SOON, status: str | None = "unavailable", **more: object
) -> web.Response:
    """503: asking again later helps. `status` is the field of that name; `more` are further ones."""
    named = {} if status is None else {"status": status}
    return json_response(503, {**named, "error": {"reason": reason}, **more}, headers)
