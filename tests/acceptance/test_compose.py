"""The containers' commands, run as processes: the sample goes through all of it, and its counts are shown."""

from __future__ import annotations

from contextlib import ExitStack

from support.command import started, weir
from weir.compose import SAMPLE_PORT, document
from weir.infra.ports import free_ports

#: The containers that a count comes through, in the order of their start.
WAY = ("sample", "worker-links", "link-store", "feed", "counts")


def test_the_counts_of_the_sample_are_shown_as_by_docker_compose_up(environ: dict[str, str]) -> None:
    containers = document()["services"]
    [port] = free_ports(1)
    environ |= {
        "WEIR_LINKS_WINDOW": "1s",
        "WEIR_LINKS_GRACE": "1s",
        "WEIR_FEED_URL": f"ws://127.0.0.1:{port}/",
    }
    _, *create = containers["topics"]["command"]
    assert weir(environ, *create).returncode == 0
    with ExitStack() as stack:
        for name in WAY:
            _, *command = containers[name]["command"]
            arguments = [str(port) if word == str(SAMPLE_PORT) else word for word in command]
            running = stack.enter_context(started(environ, *arguments))
        running.wait_for(lambda: len(running.out) >= 3)  # the last one: what is shown
        window, source, destination, count = running.out[0].decode().rstrip("\n").split("\t")
        assert window.endswith("Z")
        assert all((source, destination))
        assert int(count) > 0
        assert running.interrupt() == 0
