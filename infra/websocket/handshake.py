"""The opening handshake (RFC 6455, section 4.2): a request's bytes → Request, and what is answered. Pure."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import http
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

#: A head that is longer is refused with 431.
MAX_HEAD = 16 << 10
_MAX_HEADERS = 100
_MAX_FIELDS = 32
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE = re.compile(r"([A-Z]{1,20}) ([^ ]+) HTTP/([0-9]\.[0-9])")
#: What an address may consist of (RFC 3986, 2): clients write everything else in these.
_TARGET = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class HandshakeRequest:
    """Parsed request of a WebSocket handshake. Header names are in lower case; a header that came twice is joined with
    a comma.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    remote: str


@dataclass(frozen=True)
class Refusal:
    """An HTTP answer in place of a connection. `reason` is its body: text, unless `headers` say otherwise."""

    status: int
    reason: str
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Whether the body is left out, as for HEAD.
    is_head: bool = False


class HandshakeRefusedError(Exception):
    """The request is answered with this refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


def parse(head: bytes, remote: str) -> HandshakeRequest:
    """The request whose head this is, without the empty line at its end. Raises HandshakeRefusedError."""
    first, *lines = head.decode("latin-1").split("\r\n")
    line = _LINE.fullmatch(first)
    if line is None:
        raise HandshakeRefusedError(Refusal(400, "this is not an HTTP/1.1 request"))
    if line[3] != "1.1":
        raise HandshakeRefusedError(Refusal(505, "unsupported version: use HTTP/1.1"))
    if not _TARGET.fullmatch(line[2]):
        raise HandshakeRefusedError(
            Refusal(400, "the address must be ASCII: write other characters as %XX of their UTF-8")
        )
    if len(lines) > _MAX_HEADERS:
        raise HandshakeRefusedError(Refusal(431, f"more than {_MAX_HEADERS} headers"))
    headers: dict[str, str] = {}
    for text in lines:
        name, colon, value = text.partition(":")
        if not colon or not _TOKEN.fullmatch(name) or any((c < " " and c != "\t") or c == "\x7f" for c in value):
            raise HandshakeRefusedError(Refusal(400, "a header is malformed"))
        name, value = name.lower(), value.strip(" \t")
        if name == "host" and name in headers:
            raise HandshakeRefusedError(Refusal(400, "the header Host is given twice"))
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    try:
        target = urlsplit(line[2])
        path = unquote(target.path, errors="strict")
        pairs = parse_qsl(
            target.query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
        )  # fmt: skip
    except ValueError as e:
        raise HandshakeRefusedError(Refusal(400, f"the address cannot be read: {e}")) from None
    query = dict(pairs)
    if len(query) < len(pairs):
        twice = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
        raise HandshakeRefusedError(Refusal(400, f"`{twice}` is given twice"))
    return HandshakeRequest(line[1], path, query, headers, remote)


def check_upgrade(request: HandshakeRequest) -> str:
    """The value of `Sec-WebSocket-Accept`. Raises HandshakeRefusedError where this is no WebSocket request (4.2.1)."""
    headers = request.headers
    if request.method != "GET":
        raise HandshakeRefusedError(Refusal(405, "method not allowed; allowed: GET", {"Allow": "GET"}))
    if "websocket" not in _tokens(headers.get("upgrade", "")) or "upgrade" not in _tokens(
        headers.get("connection", "")
    ):
        raise HandshakeRefusedError(Refusal(426, "this is a WebSocket: connect with ws://", {"Upgrade": "websocket"}))
    if "host" not in headers:
        raise HandshakeRefusedError(Refusal(400, "the header Host is missing"))
    if headers.get("sec-websocket-version") != "13":
        raise HandshakeRefusedError(
            Refusal(426, "unsupported WebSocket version; supported: 13", {"Sec-WebSocket-Version": "13"})
        )
    key = headers.get("sec-websocket-key", "")
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise HandshakeRefusedError(Refusal(400, "the header Sec-WebSocket-Key is not 16 bytes in base64"))
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def check_origin(request: HandshakeRequest, allowed: frozenset[str]) -> None:
    """Raises HandshakeRefusedError (403) if a browser's page is not allowed; others send no Origin (10.2)."""
    origin = request.headers.get("origin")
    if allowed and origin is not None and origin.lower() not in allowed:
        raise HandshakeRefusedError(Refusal(403, "pages of this Origin are not allowed to connect"))


def accepted(key: str) -> bytes:
    """The answer that opens the connection."""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {key}\r\n\r\n"
    ).encode()


def answered(request: HandshakeRequest, page: Refusal) -> Refusal:
    """Returns what a page answers to this request: nothing but GET and HEAD is for it."""
    if request.method not in ("GET", "HEAD"):
        return Refusal(405, "method not allowed; allowed: GET, HEAD", {"Allow": "GET, HEAD"})
    return dataclasses.replace(page, is_head=request.method == "HEAD")


def refused(refusal: Refusal) -> bytes:
    """The answer that refuses."""
    body = (refusal.reason + "\n").encode()
    headers = {"Content-Type": "text/plain; charset=utf-8", **refusal.headers}
    lines = [
        f"HTTP/1.1 {refusal.status} {http.HTTPStatus(refusal.status).phrase}",
        *(f"{name}: {value}" for name, value in headers.items()),
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if refusal.is_head else body)


def _tokens(value: str) -> set[str]:
    return {token.strip().lower() for token in value.split(",")}
