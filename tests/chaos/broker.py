"""A broker of the run's own, to be killed and paused, with a second listener that is reached through the proxy."""

from __future__ import annotations

import signal
from pathlib import Path

from weir.infra.config import Config
from weir.infra.servers.kafka import KafkaServer
from weir.infra.supervisor.processes import Process, end


class SlowToo(KafkaServer):
    """The embedded Kafka, also listening on `inner`, and telling who comes in there that it is found at `outer`."""

    def __init__(self, config: Config, inner: int, outer: int) -> None:
        super().__init__(config)
        self._port, self._controller, self._inner, self._outer = (
            config.kafka.port, config.kafka.controller_port, inner, outer,
        )  # fmt: skip

    def _write_settings(self, folder: Path) -> None:
        super()._write_settings(folder)
        with (folder / "server.properties").open("a") as settings:  # of a name given twice, the last holds
            settings.write(
                f"listeners=PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{self._controller},"
                f"SLOW://127.0.0.1:{self._inner}\n"
                f"advertised.listeners=PLAINTEXT://127.0.0.1:{self._port},SLOW://127.0.0.1:{self._outer}\n"
                "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SLOW:PLAINTEXT\n"
            )


class Broker:
    """The running broker."""

    def __init__(self, server: KafkaServer) -> None:
        self._server = server
        server.prepare()
        self._process: Process = server.spawn()
        server.wait_ready(self._process)

    def restart(self) -> None:
        """kill -9, and started again; returns once it answers."""
        self._process.kill()
        self._process.wait()
        self._process = self._server.spawn()
        self._server.wait_ready(self._process)

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.resume()
        end({self._process: signal.SIGKILL}, seconds=10)
