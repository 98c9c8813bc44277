"""The body of every error: `{"error": {"reason": "…"}}`."""

from __future__ import annotations

import http
from collections.abc import Mapping

import msgspec
from aiohttp import web

from weir.infra.http.responses import json_response

#: As much of a reason as is said that quotes what a client sent, in characters.
_LONGEST = 200
#: For statuses whose reason aiohttp gives no more of than the status itself.
_REASONS = {
    404: "unknown path",
    417: "unsupported Expect header; supported: 100-continue",
    500: "internal error; the service's log describes it",
    504: "the request took too long",
}


def error_body(reason: str) -> bytes:
    """The body."""
    return msgspec.json.encode({"error": {"reason": reason}})


def error_response(status: int, reason: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """The answer."""
    return json_response(status, error_body(reason), headers)


def as_json(error: web.HTTPException, method: str) -> web.Response:
    """Returns the JSON response to an error that aiohttp raised. `method` is the request's."""
    headers = {name: error.headers[name] for name in ("Allow", "Location") if name in error.headers}
    reason = _REASONS.get(error.status, error.reason)
    if error.status == 405:
        reason = f"method {method[:20]} is not allowed; allowed: {error.headers.get('Allow', '').replace(',', ', ')}"
    return error_response(error.status, reason, headers)


def malformed(message: str | None) -> str:
    """Returns why a request cannot be read: the first line of the message of aiohttp's parser."""
    first = (message or "").strip().partition("\n")[0].rstrip(" :")
    return f"the request is malformed: {first[:_LONGEST]}" if first else "the request is malformed"


def internal(status: int) -> str:
    """Returns the text that a client gets for an internal error, which the log describes."""
    return _REASONS.get(status, _REASONS[500])


def raw_error(status: int, reason: str, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole answer as bytes, where no request has been read that it could be an answer of aiohttp's to."""
    body = error_body(reason)
    lines = [
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
        "Content-Type: application/json; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
