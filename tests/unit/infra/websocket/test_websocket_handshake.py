"""The opening handshake: what is a request, what is refused and how."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.infra.websocket import handshake
from weir.infra.websocket.handshake import HandshakeRefusedError, HandshakeRequest, Refusal

GOOD = {
    "Host": "h",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def head(target: str = "/websocket", method: str = "GET", version: str = "HTTP/1.1", **headers: str | None) -> bytes:
    given = GOOD | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in given.items() if value is not None]
    return "\r\n".join([f"{method} {target} {version}", *lines]).encode("latin-1")


def status(raw: bytes) -> int:
    with pytest.raises(HandshakeRefusedError) as raised:
        handshake.check_upgrade(handshake.parse(raw, "127.0.0.1"))
    return raised.value.refusal.status


def test_the_example_of_the_rfc() -> None:
    request = handshake.parse(head("/chat?channel=a%20b&hello="), "127.0.0.1")
    assert (request.path, request.query) == ("/chat", {"channel": "a b", "hello": ""})
    assert request.headers["host"] == "h"
    assert handshake.check_upgrade(request) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", 400),
        (b"nonsense", 400),
        (b"GET / HTTP/2", 400),
        (head(version="HTTP/1.0"), 505),
        (head(version="HTTP/0.9"), 505),
        (head(version="HTTP/2.0"), 505),
        (head(version="HTTP/1.1 "), 400),
        (head() + b"\r\nhost: h", 400),
        (head("/websocket?channel=\x01"), 400),
        (head("/web socket"), 400),
        (head() + b"\r\nno colon", 400),
        (head() + b"\r\n folded: x", 400),
        (head() + b"\r\nX: a\x00b", 400),
        (head() + b"\r\nX: y" * 101, 431),
        (head("/websocket?a=1&a=2"), 400),
        (head("/websocket?a=%ff"), 400),
        (head("/%ff"), 400),
        (head("/?" + "&".join(f"f{n}=" for n in range(33))), 400),
        (head(method="POST"), 405),
        (head(Upgrade=None), 426),
        (head(Connection="close"), 426),
        (head(Host=None), 400),
        (head(Sec_WebSocket_Version="8"), 426),
        (head(Sec_WebSocket_Key=None), 400),
        (head(Sec_WebSocket_Key="short"), 400),
        (head(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==x"), 400),
    ],
)
def test_what_is_no_handshake_is_refused(raw: bytes, expected: int) -> None:
    assert status(raw) == expected


@pytest.mark.parametrize("raw", ["café".encode(), "café".encode("latin-1"), b"\xff", "a\u00a0b".encode(), b"a\x85"])
def test_an_address_that_is_not_ascii_is_refused_with_how_to_write_it(raw: bytes) -> None:
    with pytest.raises(HandshakeRefusedError, match="write other characters as %XX of their UTF-8") as raised:
        handshake.parse(head("/websocket?channel=CHANNEL").replace(b"CHANNEL", raw), "127.0.0.1")
    assert raised.value.refusal.status == 400


@pytest.mark.parametrize(("version", "status"), [("HTTP/1.0", 505), ("HTTP/2", 400)])
def test_another_version_is_refused_by_name(version: str, status: int) -> None:
    with pytest.raises(HandshakeRefusedError, match=r"HTTP/1\.1") as raised:
        handshake.parse(head(version=version), "127.0.0.1")
    assert raised.value.refusal.status == status
    assert handshake.refused(raised.value.refusal).startswith(b"HTTP/1.1 %d " % status)


@given(st.binary(max_size=300))
def test_noise_is_refused_in_order(raw: bytes) -> None:
    assert 400 <= status(raw) <= 505


def test_an_origin_has_to_be_allowed_where_there_is_one() -> None:
    def request(origin: str | None) -> HandshakeRequest:
        return handshake.parse(head(Origin=origin), "127.0.0.1")

    allowed = frozenset({"https://a.example"})
    handshake.check_origin(request("HTTPS://a.example"), allowed)
    handshake.check_origin(request(None), allowed)
    handshake.check_origin(request("https://b.example"), frozenset())
    with pytest.raises(HandshakeRefusedError) as raised:
        handshake.check_origin(request("https://b.example"), allowed)
    assert raised.value.refusal.status == 403


def test_a_refusal_is_an_answer_that_ends_the_connection() -> None:
    answer = handshake.refused(Refusal(401, "who?", {"WWW-Authenticate": 'Basic realm="weir"'}))
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    assert (status, body) == (b"HTTP/1.1 401 Unauthorized", b"who?\n")
    assert b'WWW-Authenticate: Basic realm="weir"' in headers
    assert b"Content-Type: text/plain; charset=utf-8" in headers
    assert headers[-1] == b"Connection: close"


@pytest.mark.parametrize(
    ("method", "status", "body"),
    [("GET", 200, b"{}\n"), ("HEAD", 200, b""), ("POST", 405, b"method not allowed; allowed: GET, HEAD\n")],
)
def test_a_page_answers_get_and_head(method: str, status: int, body: bytes) -> None:
    request = handshake.HandshakeRequest(method, "/healthz", {}, {}, "10.0.0.1")
    answer = handshake.refused(handshake.answered(request, Refusal(200, "{}")))
    head, _, found = answer.partition(b"\r\n\r\n")
    assert (int(head.split()[1]), found) == (status, body)
    assert b"Content-Length: %d" % (len(body) or 3) in head
    assert (b"Allow: GET, HEAD" in head) is (status == 405)


def test_what_is_no_text_says_its_own_type() -> None:
    answer = handshake.refused(Refusal(200, "{}", {"Content-Type": "application/json"}))
    assert answer.count(b"Content-Type: ") == answer.count(b"Content-Type: application/json\r\n") == 1
