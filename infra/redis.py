"""A Redis that exists, as weir uses it: for what may be lost at any time, so it is never waited for long.

It may be away, slow or full: then nothing is found in it and nothing kept, and for a while it is not asked at all.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from weir.infra import log
from weir.infra.errors import ConfigError
from weir.infra.runtime.backoff import Backoff

#: Seconds that Redis has to take a connection, or to answer.
PATIENCE_S = 0.1
#: How long it is not asked after it has failed, in seconds: at first, and at most.
REST_S, LONGEST_REST_S = 0.5, 30.0
#: How long an entry is kept, in milliseconds; each up to a tenth less, so that those made together do not end together.
TTL_MS = 6 * 3_600_000
#: More is not kept: reading it back would take longer than a question.
MAX_ENTRY = 8 << 20

T = TypeVar("T")

_log = log.get_logger(__name__)


class RedisStore:
    """Bytes by name in Redis. Of one event loop. `clock` gives seconds, `jitter` 0 to 1.

    Raises ConfigError for an address that is none; nothing later.
    """

    def __init__(
        self,
        url: str,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        try:
            self._client = redis.asyncio.Redis.from_url(
                url,
                socket_timeout=patience_s,
                socket_connect_timeout=patience_s,
                retry=Retry(NoBackoff(), 0),
                retry_on_timeout=False,
                protocol=2,
                client_name="weir",
            )
        except ValueError as e:  # its text may hold the password
            raise ConfigError("WEIR_REDIS must be redis://[user:password@]host:port[/number]") from e
        self._clock = clock
        self._jitter = jitter
        self._backoff = Backoff(REST_S, LONGEST_REST_S, jitter)
        self._rests_until: float | None = None

    async def get(self, names: Sequence[bytes]) -> list[bytes | None]:
        """The entries of these names, None for each that is not there or cannot be had."""
        found = await self._call(lambda: self._client.mget(names)) if names else None
        return (
            [None] * len(names) if found is None else [entry if isinstance(entry, bytes) else None for entry in found]
        )

    async def put(self, entries: Mapping[bytes, bytes]) -> None:
        """Keeps them, if Redis is there."""

        async def put() -> object:
            async with self._client.pipeline(transaction=False) as pipeline:
                for name, entry in entries.items():
                    if len(entry) <= MAX_ENTRY:
                        pipeline.set(name, entry, px=round(TTL_MS * (1 - 0.1 * self._jitter())))
                return await pipeline.execute()

        await self._call(put)

    async def close(self) -> None:
        """Closes its connections."""
        await self._client.aclose()

    async def _call(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Returns Redis' answer, or None if Redis does not answer. While Redis is away, one call after each pause tries
        it again.
        """
        if self._rests_until is not None:
            if self._clock() < self._rests_until:
                return None
            self._rests_until = self._clock() + self._backoff.next()  # for all others, while this one tries
        try:
            found = await ask()
        except (RedisError, OSError, TimeoutError, ValueError) as e:
            if self._rests_until is None:
                _log.warning("redis.away", error=" ".join(str(e).split()))
                self._rests_until = self._clock() + self._backoff.next()
            return None
        if self._rests_until is not None:
            _log.info("redis.back")
            self._rests_until = None
            self._backoff.reset()
        return found
