"""Simulated clients at work: each a thread with a connection of its own, which sends until it is answered."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

from weir.infra.errors import ConfigError
from weir.infra.runtime.backoff import Backoff
from weir.producers.simulators.clients.check import SentByClient, SimulatedResponse
from weir.producers.simulators.clients.events import Repeat, SimulatedRequest
from weir.schemas.errors import WeirError

#: Seconds that an answer may take. Kafka has less for what it acknowledges.
TIMEOUT_S = 15.0
#: What is worth another try, beside a connection that breaks.
TRY_AGAIN = (408, 429, 503)

_answer = msgspec.json.Decoder(SimulatedResponse).decode


class UnexpectedAnswerError(WeirError):
    """Monitoring answered what it never should."""


class HttpClient:
    """HTTP to one server over one connection, opened again where it broke. For one thread.

    Raises ConfigError for an address that is none.
    """

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ConfigError(f"{url!r} is not an address: write http://host:port")
        made = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        self._connection = made(address.hostname, address.port, timeout=TIMEOUT_S)
        self._prefix = address.path.rstrip("/")

    def send(self, method: str, path: str, body: bytes | None = None, content_type: str | None = None) -> None:
        """Sends a request. Raises OSError and http.client.HTTPException."""
        headers = {"Content-Type": content_type} if content_type else {}
        self._connection.request(method, self._prefix + path, body, headers)

    def answer(self) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body of the answer. Raises OSError and http.client.HTTPException."""
        response = self._connection.getresponse()
        return response.status, response.headers, response.read()

    def close(self) -> None:
        """Breaks the connection; the next request opens another."""
        self._connection.close()


class SimulatedSender(threading.Thread):
    """Sends what one client has to send, from `begin` (in seconds of `time.monotonic`).

    `stop`: nothing new is sent from then on. `give_up`: nothing is tried again either. `error` is what ended it early.
    """

    def __init__(
        self, client_id: str, requests: Iterable[SimulatedRequest], url: str, begin: float, stop: threading.Event,
        give_up: threading.Event,
    ) -> None:  # fmt: skip
        super().__init__(name=f"client-{client_id}", daemon=True)
        self.sent = SentByClient(client_id)
        self.error: WeirError | None = None
        self._requests = requests
        self._http = HttpClient(url)
        self._begin = begin
        self._stop_asked, self._give_up = stop, give_up

    def run(self) -> None:
        """Sends each request when it is due, one after the other."""
        try:
            for request in self._requests:
                if self._stop_asked.wait(max(0.0, self._begin + request.due / 1000 - time.monotonic())):
                    return
                self._send(request)
        except WeirError as e:
            self.error = e
        finally:
            self._http.close()

    def _send(self, request: SimulatedRequest) -> None:
        body = request.body()
        self.sent.sending(request)
        if request.repeat is Repeat.UNHEARD:
            self._send_unheard(request, body)
            self.sent.repeating(request)
        answered = self._until_answered(request, body)
        if answered and request.repeat is Repeat.ANSWERED:
            self.sent.repeating(request)
            answered = self._until_answered(request, body)
        if answered:
            self.sent.settled(request)

    def _send_unheard(self, request: SimulatedRequest, body: bytes) -> None:
        try:
            self._http.send("POST", "/events", body, request.form.value)
        except (OSError, http.client.HTTPException):
            self.sent.retries += 1
        self._http.close()

    def _until_answered(self, request: SimulatedRequest, body: bytes) -> bool:
        """Tries again until there is an answer, which it takes; False where it gave up."""
        backoff = Backoff(first=0.2, cap=5.0)
        while True:
            try:
                self._http.send("POST", "/events", body, request.form.value)
                status, headers, text = self._http.answer()
            except (OSError, http.client.HTTPException):
                self._http.close()
                delay = backoff.next()
            else:
                if status not in TRY_AGAIN:
                    self.sent.answered(_checked(status, text))
                    return True
                delay = max(backoff.next(), _seconds(headers.get("Retry-After")))
            self.sent.retries += 1
            if self._give_up.wait(delay):
                return False


def _checked(status: int, body: bytes) -> SimulatedResponse:
    """The answer's verdicts. Raises UnexpectedAnswerError where it has none."""
    try:
        if status in (202, 400):
            return _answer(body)
    except msgspec.DecodeError:
        pass  # an error of the whole request, which is told in full
    raise UnexpectedAnswerError(f"POST /events returned HTTP {status}: {body[:500].decode(errors='replace')}")


def _seconds(retry_after: str | None) -> float:
    """Returns the seconds that a header `Retry-After` asks for, 0 without one; weir writes whole seconds."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
