"""A job as an ordinary Faust app with ordinary agents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faust
from mode.utils.queues import FlowControlEvent, ThrowableQueue

from weir.infra.config import Config
from weir.infra.kafka.client import ensure_topics
from weir.infra.runtime.private import private_folder
from weir.infra.runtime.threads import in_daemon
from weir.streams.engine.core.job import Job
from weir.streams.engine.dataplane.dataplane import DataPlane, fail
from weir.streams.engine.dataplane.reader import Slice
from weir.streams.engine.queries.server import Endpoint
from weir.streams.engine.worker.membership import transport_for

#: How many slices may wait for an agent: enough to keep it busy, few enough to keep memory and latency small.
SLICES = 4


class FaustApp(faust.App):  # type: ignore[misc]
    """A Faust app whose queues are left alone: Faust suspends and clears them while it rebalances, and what it clears
    would be lost to tasks that live. A task knows by itself when its slices count for nothing.
    """

    config: Config
    plane: DataPlane
    endpoint: Endpoint

    class BootStrategy(faust.app.BootStrategy):  # type: ignore[misc]
        enable_web = False  # Faust's own web server, which its command line would start, knows nothing of the tables

    async def on_first_start(self) -> None:
        self.endpoint.listen()
        # The group's coordinator tells it to whoever asks. Not set in the usual way: Faust has read it before, for
        # nothing, and would warn of the change.
        object.__setattr__(self.conf, "broker_client_id", self.endpoint.client_id)
        await self.endpoint.start()
        await in_daemon(lambda: ensure_topics(self.config))
        private_folder(self.config.home)  # Faust makes its own folder in it
        await super().on_first_start()

    def FlowControlQueue(self, maxsize: int | None = None, *, clear_on_resume: bool = False) -> Any:
        return ThrowableQueue(maxsize=maxsize or 0, flow_control=FlowControlEvent(initially_suspended=False))


def app_for(config: Config, job: Job, give_up: Callable[[BaseException], None] = fail) -> FaustApp:
    """The Faust app of one job: one agent per topic that it reads, each getting slices of records.

    `give_up` ends the process with what it cannot go on from.
    """
    app = FaustApp(
        config.topic(job.name),
        broker=";".join(f"kafka://{host}" for host in config.kafka.bootstrap.split(",")),
        store="memory://",
        datadir=str(config.home / "faust"),  # Faust makes the folder; nothing of weir's is in it
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=6.0,
        broker_heartbeat_interval=1.0,
        broker_rebalance_timeout=15.0,
        stream_wait_empty=False,
        worker_redirect_stdouts=False,
    )
    channels: dict[str, Any] = {}

    async def deliver(piece: Slice) -> None:
        await channels[piece.task.topic].put(piece)

    plane = DataPlane(config, job, deliver, give_up)
    names = {config.topic(topic): topic for topic in plane.topics}
    app.transport = transport_for(app, plane, names)

    async def work(stream: Any) -> None:
        async for task, start, records, idle, left in stream:
            try:
                await task.handle(start, records, idle, left)
            except Exception as e:  # noqa: BLE001 - Faust would restart the agent without what it lost
                give_up(e)
            await asyncio.sleep(0)

    async def member(stream: Any) -> None:
        async for _ in stream:  # subscribes; the records themselves come in slices
            raise AssertionError("Faust's consumer fetches nothing")

    for name, topic in names.items():
        channels[topic] = app.channel(maxsize=SLICES)
        app.agent(channels[topic], name=f"{job.name}.{topic}")(work)
        app.agent(app.topic(name, value_type=bytes, value_serializer="raw"), name=f"{job.name}.{topic}.member")(member)

    @app.task  # type: ignore[untyped-decorator]
    async def threads() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(64, "commit"))

    @app.on_before_shutdown.connect  # type: ignore[untyped-decorator]
    async def stop(*_: Any, **__: Any) -> None:
        await plane.stop()
        await app.endpoint.stop()

    app.config, app.plane, app.endpoint = config, plane, Endpoint(config, job, plane)
    return app
