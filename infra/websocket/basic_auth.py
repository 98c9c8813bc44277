"""HTTP Basic authentication (RFC 7617) that delays the answers to wrong credentials. Pure.

The right credentials are answered at once, whatever other clients tried from the same address: behind a TLS proxy all
clients have one address, and a guesser there must not keep the others out. Each wrong attempt delays the answer to the
next wrong one from its address. What the delays cost is bounded: per address by how long an answer may wait, and in all
by `MAX_HELD`. A wrong attempt beyond these bounds is refused at once, so a guesser with many connections learns as fast
as connections can be made: the password has to be long enough for that.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import math
import re
from bisect import bisect_right, insort
from collections import OrderedDict
from dataclasses import dataclass

from weir.infra.config import Config
from weir.infra.connections.addresses import address_group, is_loopback
from weir.infra.errors import ConfigError

#: The header of a 401 (RFC 7617, 2.1).
CHALLENGE = {"WWW-Authenticate": 'Basic realm="weir", charset="UTF-8"'}
#: The password that everybody knows.
DEFAULT_PASSWORD = "pwd"

#: Seconds that the answer to a second wrong attempt waits; twice as long for each more, up to `LONGEST`.
SHORTEST = 0.25
LONGEST = 5.0
#: Seconds without a wrong attempt after which one of them is forgotten.
FORGETTING = 30.0
#: Addresses that are remembered; beyond it, the one whose last wrong attempt is longest ago is forgotten.
MAX_ADDRESSES = 10_000
#: Wrong attempts whose answers are held back at the same time, over all addresses.
MAX_HELD = 100

_CREDENTIALS = re.compile(r"basic +([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)
#: A timer may fire a little early, so that one attempt after another seems to come before its time.
_SLACK = 0.5


@dataclass(frozen=True)
class LoginResult:
    """Result of an attempt to log in: `status` 200, 401 or 429. A 401 is sent after `delay` seconds, the others at
    once; with a 429, `retry_after` (whole seconds) says when a wrong attempt would get its 401 again.
    """

    status: int
    delay: float = 0.0
    retry_after: int = 0


def parse(header: str) -> tuple[bytes, bytes] | None:
    """The user and the password that an `Authorization` header holds, or None where it holds none.

    >>> parse("Basic dXNlcjpwOndk"), parse("Bearer dXNlcjpwd2Q="), parse("Basic dXNlcg==")
    ((b'user', b'p:wd'), None, None)
    """
    match = _CREDENTIALS.fullmatch(header.strip())
    if match is None:
        return None
    try:
        user, colon, password = base64.b64decode(match[1], validate=True).partition(b":")
    except binascii.Error:
        return None
    return (user, password) if colon else None


class BasicAuth:
    """Checks attempts against one user's credentials. All times are seconds of one monotonic clock.

    The right ones are let in at once, also from an address that wrong ones come from.
    Without a header nothing is guessed: the answer is 401 at once, which a client that waits to be asked needs.
    """

    def __init__(self, user: str, password: str) -> None:
        self._user = user.encode()
        self._password = password.encode()
        #: By address: wrong attempts, when the last of them was, and before when nothing is answered.
        self._failures: OrderedDict[str, tuple[int, float, float]] = OrderedDict()
        #: When the handshakes that are held back are answered, in order.
        self._held: list[float] = []

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._failures)

    def held(self, now: float) -> int:
        """How many wrong attempts have not been answered yet."""
        del self._held[: bisect_right(self._held, now)]
        return len(self._held)

    def check(self, header: str | None, remote: str, now: float) -> LoginResult:
        """Checks an attempt from `remote` with this `Authorization` header (None: without one)."""
        if header is None:
            return LoginResult(401)
        given = parse(header)
        user, password = given or (b"", b"")
        # Both are compared whatever comes of the first: the time taken must not tell that the user is right.
        right = hmac.compare_digest(user, self._user) & hmac.compare_digest(password, self._password)
        return LoginResult(200) if right and given is not None else self._wrong(address_group(remote), now)

    def _wrong(self, address: str, now: float) -> LoginResult:
        """A wrong attempt: the answers to those of one address line up, each behind a longer delay."""
        count, not_before = self._remembered(address, now)
        answer_at = max(now, not_before)
        if answer_at - now > LONGEST + _SLACK:
            return LoginResult(429, retry_after=math.ceil(answer_at - now))
        if answer_at > now:
            if self.held(now) >= MAX_HELD:
                return LoginResult(429, retry_after=math.ceil(self._held[0] - now))
            insort(self._held, answer_at)
        self._remember(address, count + 1, now, answer_at)
        return LoginResult(401, answer_at - now)

    def _remembered(self, address: str, now: float) -> tuple[int, float]:
        """The wrong attempts that are not forgotten, and before when nothing is answered."""
        if (found := self._failures.get(address)) is None:
            return 0, now
        count, last, not_before = found
        count -= int((now - last) / FORGETTING)
        if count <= 0:
            del self._failures[address]
            return 0, now
        return count, not_before

    def _remember(self, address: str, count: int, now: float, answered: float) -> None:
        self._failures[address] = (count, now, answered + delay_after(count))
        self._failures.move_to_end(address)
        while len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)


def delay_after(failures: int) -> float:
    """Seconds between the answer to the last of so many wrong attempts and the answer to the next wrong one.

    >>> [delay_after(n) for n in range(7)]
    [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 5.0]
    """
    return min(LONGEST, SHORTEST * 2.0 ** min(failures - 1, 32)) if failures > 0 else 0.0


def check_credentials(config: Config) -> None:
    """Raises ConfigError where the credentials cannot be used, or are the known ones and others reach this machine."""
    user, password = config.broadcast.user, config.broadcast.password
    if ":" in user or not user.isprintable():
        raise ConfigError("WEIR_BROADCAST_USER cannot be used: it must be printable and without a colon (RFC 7617)")
    if not password.isprintable():
        raise ConfigError("WEIR_BROADCAST_PASSWORD cannot be used: it must be printable (RFC 7617)")
    if password == DEFAULT_PASSWORD and not is_loopback(config.host):
        raise ConfigError(
            f"WEIR_HOST={config.host} accepts connections from other machines, and the password of "
            "WEIR_BROADCAST_USER is the default: set WEIR_BROADCAST_PASSWORD"
        )
