"""The port of a service that has none of its own: another process may have it already."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.request
from contextlib import closing
from pathlib import Path

from support.wait import PATIENCE_S
from weir.infra.config import load
from weir.infra.runtime.lifecycle import ServiceLifecycle
from weir.infra.runtime.status import read_one
from weir.infra.websocket.service import ProbeEndpoint


def index(address: str) -> dict[str, object]:
    with urllib.request.urlopen(f"{address}/", timeout=PATIENCE_S) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def test_where_the_port_is_taken_another_one_serves_and_the_status_says_which(tmp_path: Path) -> None:
    async def main(taken: int) -> None:
        config = load({"WEIR_HOME": str(tmp_path), "WEIR_WORKER_PORT": str(taken)})
        lifecycle = ServiceLifecycle(config, "some")
        running = asyncio.create_task(lifecycle.run(ProbeEndpoint(config, lifecycle)))
        while (status := read_one(config, "some")) is None or status.address is None:
            await asyncio.sleep(0.01)
        assert status.address != f"http://127.0.0.1:{taken}"
        assert (await asyncio.to_thread(index, status.address))["service"] == "some"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        asyncio.run(asyncio.wait_for(main(other.getsockname()[1]), PATIENCE_S))
