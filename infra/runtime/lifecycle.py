"""One way to run a service: its parts are opened, worked and closed, and one status says how they do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from threading import Lock

from weir.infra import log, prometheus
from weir.infra.config import Config
from weir.infra.errors import RetryableError
from weir.infra.prometheus import Reading
from weir.infra.runtime.patience import until_answered
from weir.infra.runtime.status import FAILED, StatusFile
from weir.infra.runtime.threads import in_daemon
from weir.infra.version import VERSION

#: How often the status is written where it has changed, in seconds.
TELL_S = 1.0
#: How long a part may take to close, in seconds: all are to end within 5.
CLOSE_S = 4.0
#: The states of parts and services, the worst first.
STATES = ("waiting", "reconnecting", "starting", "running")

Facts = Mapping[str, str | int | float | bool | None]


class ServicePart:
    """One part of a service: a reader, a writer, a server of requests. A subclass has what it needs of this."""

    async def open(self) -> None:
        """Gets ready. Raises RetryableError where a server does not answer; then it is called again."""

    async def work(self) -> None:
        """Runs until cancelled, or until there is nothing left to do. Raises WeirError where it cannot go on."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Ends what it does, open or not; `work` has ended."""

    @property
    def state(self) -> str:
        """One of `STATES`, once it is open."""
        return "running"

    @property
    def reason(self) -> str | None:
        """Says what the part waits for; None: Kafka, or nothing."""
        return None

    def metrics(self) -> Iterable[Reading]:
        """Its metrics (`weir.infra.prometheus`), as they are now."""
        return ()


class BackgroundWork(ServicePart):
    """Work beside that of other parts: `work` runs until cancelled, `end` once behind it."""

    def __init__(self, work: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[object]] | None = None) -> None:
        self._work, self._finish = work, end

    async def work(self) -> None:
        """Runs until cancelled."""
        await self._work()

    async def close(self) -> None:
        """Ends what was begun."""
        if self._finish is not None:
            await self._finish()


class Closing(ServicePart):
    """Something that is open already, and only has to be closed at the end."""

    def __init__(self, end: Callable[[], Awaitable[object]]) -> None:
        self._finish = end

    async def close(self) -> None:
        """Closes it."""
        await self._finish()


class ServiceLifecycle:
    """Runs the parts of one service, from its start to its end:

        lifecycle = ServiceLifecycle(config, "listener", facts=listener.facts)
        await lifecycle.run(listener, WebSocketEndpoint(config, routes, lifecycle))

    Parts are opened side by side, each for as long as what it needs does not answer; each works as soon as it is open.
    They are closed in the order given, one after the other: what takes in before what hands out. One that cannot be
    closed is left, with a line in the log.

    `name` is how `weir status` calls the service, `facts` what it shows of it, `address` where it listens.
    `is_a_start`: what runs is only what comes before the service itself.
    """

    def __init__(
        self,
        config: Config,
        service: str,
        *,
        facts: Callable[[], Facts] = dict,
        name: str | None = None,
        address: str | None = None,
        is_a_start: bool = False,
    ) -> None:
        self._config, self._service, self._facts, self._is_a_start = config, service, facts, is_a_start
        self._status = StatusFile(config, name or service, address)
        self._parts: Sequence[ServicePart] = ()
        self._unopened: dict[int, str | None] = {}  # the parts that are not open, and why, where that is known
        self._changed = asyncio.Event()
        self._writing, self._has_ended = Lock(), False
        self._log = log.get_logger(service)

    @property
    def service(self) -> str:
        """The name of the service."""
        return self._service

    @property
    def state(self) -> str:
        """The worst state of its parts. A part that is not open waits, or has not been asked yet."""
        states = {part.state for at, part in enumerate(self._parts) if at not in self._unopened}
        states |= {"starting" if why is None else "waiting" for why in self._unopened.values()}
        return next((state for state in STATES if state in states), "starting")

    @property
    def reason(self) -> str | None:
        """Says what the service waits for; None where it does not wait."""
        if self.state != "waiting":
            return None
        opened = (part.reason for at, part in enumerate(self._parts) if at not in self._unopened)
        why = next((why for why in (*self._unopened.values(), *opened) if why is not None), None)
        return why or f"Kafka does not answer at {self._config.kafka.bootstrap}"

    def metrics(self) -> Iterable[Reading]:
        """The metrics of the service and of its parts."""
        yield Reading(prometheus.INFO, 1, (self._service, VERSION))
        yield Reading(prometheus.READY, self.state == "running", (self._service,))
        for part in self._parts:
            yield from part.metrics()

    async def run(self, *parts: ServicePart) -> None:
        """Runs until cancelled, or until a part has ended. Raises what a part raises and waiting does not help."""
        self._parts, self._unopened = parts, dict.fromkeys(range(len(parts)))
        self._status.set("starting")
        lives = [asyncio.create_task(self._live(at, part)) for at, part in enumerate(parts)]
        telling = asyncio.create_task(self._tell())
        try:
            done, _ = await asyncio.wait(lives, return_when=asyncio.FIRST_COMPLETED)
            for life in done:
                life.result()
        except Exception as e:
            self._end(str(e) or repr(e))
            raise
        finally:
            telling.cancel()
            try:
                for part, life in zip(parts, lives, strict=True):
                    life.cancel()
                    await asyncio.gather(life, return_exceptions=True)
                    await self._close(part)
            finally:
                self._end()

    async def _close(self, part: ServicePart) -> None:
        """Closes a part. One that cannot be closed, or takes too long, keeps no other open."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await part.close()
        except Exception as e:  # noqa: BLE001 - whatever it is, the others are closed
            self._log.error(f"{self._service}.close_failed", part=type(part).__name__, exc_info=e)

    def changed(self) -> None:
        """Has the status written now: it is known to be another. Called in the thread of the event loop."""
        self._changed.set()

    def listens_at(self, address: str) -> None:
        """Has the status say where the service listens, where that is known only once it does."""
        self._status.address = address
        self._changed.set()

    async def _live(self, at: int, part: ServicePart) -> None:
        def waits(error: RetryableError, attempt: int, retry_in_s: float) -> None:
            self._unopened[at] = str(error)
            self._changed.set()
            if next(one for one, why in self._unopened.items() if why == str(error)) == at:  # one speaks for all
                self._log.warning(f"{self._service}.waiting", error=str(error), attempt=attempt, retry_in_s=retry_in_s)

        await until_answered(part.open, waits)
        del self._unopened[at]
        self._changed.set()
        if not self._unopened and not self._is_a_start:
            self._log.info(f"{self._service}.running", address=self._status.address)
        await part.work()

    async def _tell(self) -> None:
        """Writes the status whenever it has changed, in a thread: a busy disk would hold up everything else."""
        told: object = None
        while True:
            self._changed.clear()
            try:
                state, reason, facts = self.state, self.reason, dict(self._facts())
            except Exception as e:  # noqa: BLE001 - figures that cannot be had stop nothing
                self._log.error(f"{self._service}.no_status", exc_info=e)
                await asyncio.sleep(TELL_S)
                continue
            if told != (told := (state, reason, facts, self._status.address)):
                why = {} if reason is None else {"error": reason}
                await in_daemon(partial(self._write, state, facts | why))
            try:
                await asyncio.wait_for(self._changed.wait(), TELL_S)
            except TimeoutError:
                continue

    def _write(self, state: str, facts: Facts) -> None:
        with self._writing:
            if not self._has_ended:
                self._status.set(state, **facts)

    def _end(self, error: str | None = None) -> None:
        """Removes the status, or leaves in it why the service has failed."""
        with self._writing:
            if error is not None:
                self._status.set(FAILED, error=error)
            elif not self._has_ended:
                self._status.remove()
            self._has_ended = True
