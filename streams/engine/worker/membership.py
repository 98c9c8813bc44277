"""Faust's Kafka driver, as far as it is used: it keeps the consumer group, and fetches nothing.

What is overridden is named in Faust 0.15.3's own words; the version is pinned for this file's sake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from faust.transport.drivers import aiokafka as driver

from weir.streams.engine.dataplane.dataplane import DataPlane

#: How long Faust's fetch loop rests between two empty fetches.
REST_S = 0.5


def transport_for(app: Any, plane: DataPlane, names: Mapping[str, str]) -> Any:
    """The transport for `app` whose assignments go to `plane`; `names` maps the broker's topic names to the job's."""

    class Consumer(driver.Consumer):  # type: ignore[misc]
        async def _getmany(self, active_partitions: Any, timeout: float) -> dict[Any, Any]:
            # aiokafka leaves the group when nothing was fetched for max.poll.interval: tell it that we are alive.
            inner = self._thread._consumer
            if inner is not None:
                with inner._subscription.fetch_context():
                    pass
            await asyncio.sleep(REST_S)
            return {}

        def verify_event_path(self, now: float, tp: Any) -> None:
            """Faust would report that nothing comes through it, which is so by design."""

        async def on_partitions_revoked(self, revoked: Any) -> None:
            await plane.revoke()
            await super().on_partitions_revoked(revoked)

        async def on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
            await super().on_partitions_assigned(assigned, generation_id)
            partitions = {(names[tp.topic], tp.partition) for tp in assigned if tp.topic in names}
            self._opening = asyncio.ensure_future(plane.assign(partitions))  # opening may outlast the rebalance

    class Transport(driver.Transport):  # type: ignore[misc]
        pass

    Transport.Consumer = Consumer
    return Transport(app.conf.broker_consumer, app)
