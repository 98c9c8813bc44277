"""The lifecycle of a service: in which order its parts are opened, worked and closed, and what is said of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from weir.infra import config as configuration
from weir.infra.errors import KafkaUnavailableError, PortTakenError, WeirError
from weir.infra.runtime.lifecycle import BackgroundWork, ServiceLifecycle, ServicePart
from weir.infra.runtime.status import ServiceStatus, read_all


class Scripted(ServicePart):
    """Writes down what it is called for; `opens` are what `open` raises, one call after the other."""

    def __init__(self, name: str, calls: list[str], opens: tuple[Exception, ...] = (), fails: bool = False) -> None:
        self._name, self._calls, self._opens, self._fails = name, calls, list(opens), fails
        self.does: str = "running"
        self.works = asyncio.Event()

    async def open(self) -> None:
        self._calls.append(f"open {self._name}")
        if self._opens:
            raise self._opens.pop(0)

    async def work(self) -> None:
        self._calls.append(f"work {self._name}")
        self.works.set()
        if self._fails:
            raise WeirError(f"{self._name} cannot go on")
        await asyncio.Event().wait()

    async def close(self) -> None:
        self._calls.append(f"close {self._name}")
        if self._name == "broken":
            raise ValueError("cannot be closed")

    @property
    def state(self) -> str:
        return self.does


@pytest.fixture
def config(tmp_path: Path) -> configuration.Config:
    return configuration.load({"WEIR_HOME": str(tmp_path)})


def told(config: configuration.Config) -> ServiceStatus | None:
    return next(iter(read_all(config)), None)


def test_parts_are_opened_side_by_side_and_closed_in_order(config: configuration.Config) -> None:
    calls: list[str] = []

    async def main() -> None:
        away = KafkaUnavailableError("Kafka is away")
        first, second = Scripted("first", calls, (away, away)), Scripted("second", calls)
        lifecycle = ServiceLifecycle(config, "some", facts=lambda: {"records": 3}, address="http://here:1")
        running = asyncio.create_task(lifecycle.run(first, second))
        await second.works.wait()
        assert "work first" not in calls
        assert (lifecycle.state, lifecycle.reason) == ("waiting", "Kafka is away")
        await first.works.wait()
        assert (lifecycle.state, lifecycle.reason) == ("running", None)
        while (status := told(config)) is None or status.state != "running":
            await asyncio.sleep(0)
        assert (status.name, status.address, status.detail) == ("some", "http://here:1", {"records": 3})
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert calls.count("open first") == 3
    assert calls[-2:] == ["close first", "close second"]
    assert told(config) is None


def test_the_worst_part_is_the_states(config: configuration.Config) -> None:
    async def main() -> None:
        one, other = Scripted("one", []), Scripted("other", [])
        lifecycle = ServiceLifecycle(config, "some")
        assert lifecycle.state == "starting"
        running = asyncio.create_task(lifecycle.run(one, other))
        await one.works.wait()
        await other.works.wait()
        for does, state in (("starting", "starting"), ("waiting", "waiting"), ("running", "running")):
            other.does = does
            assert lifecycle.state == state
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_what_a_part_cannot_go_on_from_ends_the_service_and_is_its_last_word(config: configuration.Config) -> None:
    calls: list[str] = []

    async def main() -> None:
        await ServiceLifecycle(config, "some").run(Scripted("good", calls), Scripted("bad", calls, fails=True))

    with pytest.raises(WeirError, match="bad cannot go on"):
        asyncio.run(main())
    assert calls[-2:] == ["close good", "close bad"]
    status = told(config)
    assert status is not None
    assert (status.state, status.detail) == ("failed", {"error": "bad cannot go on"})


def test_a_part_that_can_never_be_opened_ends_the_service(config: configuration.Config) -> None:
    calls: list[str] = []

    async def main() -> None:
        taken = PortTakenError("cannot listen")
        await ServiceLifecycle(config, "some").run(Scripted("one", calls), Scripted("port", calls, (taken,)))

    with pytest.raises(PortTakenError):
        asyncio.run(main())
    assert calls[-2:] == ["close one", "close port"]
    assert "work port" not in calls


def test_a_service_whose_work_is_done_ends(config: configuration.Config) -> None:
    ended: list[str] = []

    async def nothing() -> None:
        return

    async def end() -> None:
        ended.append("end")

    asyncio.run(ServiceLifecycle(config, "some").run(BackgroundWork(nothing, end)))
    assert ended == ["end"]
    assert told(config) is None


def test_a_part_that_cannot_be_closed_keeps_no_other_open_and_hides_no_error(config: configuration.Config) -> None:
    calls: list[str] = []

    async def main() -> None:
        lifecycle = ServiceLifecycle(config, "some")
        await lifecycle.run(Scripted("broken", calls), Scripted("good", calls), Scripted("bad", calls, fails=True))

    with pytest.raises(WeirError, match="bad cannot go on"):
        asyncio.run(main())
    assert calls[-3:] == ["close broken", "close good", "close bad"]
    status = told(config)
    assert status is not None
    assert status.state == "failed"


def test_figures_that_cannot_be_had_stop_nothing(config: configuration.Config) -> None:
    def figures() -> dict[str, int]:
        raise RuntimeError("no figures")

    async def main() -> None:
        one = Scripted("one", [])
        running = asyncio.create_task(ServiceLifecycle(config, "some", facts=figures).run(one))
        await one.works.wait()
        await asyncio.sleep(0)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    assert told(config) is None
