"""`weir run broadcast`: listener and broadcaster as one process, and what is under which port then."""

from __future__ import annotations

from consumers.broadcaster import Broadcaster
from infra.cli.broadcast import ROUTES
from infra.config import Config
from infra.websocket.service import Facts, serve
from producers.listener import Listener


async def run(config: Config, name: str | None = None) -> None:
    """All three ports, until cancelled: `infra.websocket.service.serve`.

    The listener ends first, so that what is written then is still handed out.
    """
    listener, broadcaster = Listener(config), Broadcaster(config)
    addresses = {port: f"ws://{config.host}:{getattr(config, f'{port}_port')}" for port in ("listener", "broadcaster")}

    def tell() -> Facts:
        taken, handed = listener.facts(), broadcaster.facts()
        return addresses | {
            "senders": taken["senders"],
            "taken": taken["messages"],
            "unacknowledged": taken["unacknowledged"],
            "subscribers": handed["subscribers"],
            "handed_out": handed["messages"],
        }

    routes = {
        getattr(config, f"{port}_port"): [
            *(listener.routes(*sending) if sending else ()), *broadcaster.routes(*receiving)
        ]
        for port, (sending, receiving) in ROUTES.items()
    }  # fmt: skip
    await serve(
        config, "broadcast", routes, [listener, broadcaster], tell,
        port=config.broadcast_port, name=name, farewell=broadcaster.farewell,
    )  # fmt: skip
