"""Object stores of the tests' own: one that works, and those that do not."""

from __future__ import annotations

import http.client
import os
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from moto.server import ThreadedMotoServer

#: Headers of one connection, which are not passed on.
_HOP = ("connection", "expect", "transfer-encoding", "date", "server")


@contextmanager
def object_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """moto's S3 with the bucket `cold`; where it is."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        at(monkeypatch, address)
        for method, path in (("POST", "moto-api/reset"), ("PUT", "cold")):  # its buckets are those of this process
            urllib.request.urlopen(urllib.request.Request(f"{address}/{path}", method=method)).close()
        yield address
    finally:
        server.stop()


def at(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Sets the variables that say which store, for this process and those it starts."""
    names = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    for name, value in (names | {"AWS_ENDPOINT_URL": address}).items():
        monkeypatch.setenv(name, value)


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A store that answers everything with that status."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

        def log_message(self, *_: object) -> None: ...

    with _serving(Handler) as address:
        yield address


def with_store(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, address: str) -> dict[str, str]:
    at(monkeypatch, address)
    return environ | {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


@contextmanager
def away() -> Iterator[str]:
    """Where no store is."""
    yield "http://127.0.0.1:1"


class Cut:
    """The way to a store. From the first request whose address holds `at` on nothing is answered, until `mended`.

    What `denied` says of a method and an address is answered with 403.
    """

    def __init__(self, store: str, at: str, denied: Callable[[str, str], bool] = lambda method, path: False) -> None:
        self.store, self.at, self.denied = store.removeprefix("http://"), at, denied
        self.paths: list[str] = []
        self.broken = False

    def mended(self) -> None:
        self.at, self.broken = "\0", False


@contextmanager
def cut(way: Cut) -> Iterator[str]:
    """Serves it; where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = b"".join(_body(self))
            way.paths.append(self.path)
            way.broken = way.broken or way.at in self.path
            if way.broken:
                self.close_connection = True
                return
            if way.denied(self.command, self.path):
                self.send_response(403)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            upstream = http.client.HTTPConnection(way.store, timeout=10)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            if answer.getheader("Content-Length") is None:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            upstream.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

        def log_message(self, *_: object) -> None: ...

    with _serving(Handler) as address:
        yield address


def _body(request: BaseHTTPRequestHandler) -> Iterator[bytes]:
    """In pieces, as they come where the length is not said before."""
    if request.headers.get("Transfer-Encoding") != "chunked":
        yield request.rfile.read(int(request.headers.get("Content-Length") or 0))
        return
    while size := int(request.rfile.readline(), 16):
        yield request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
