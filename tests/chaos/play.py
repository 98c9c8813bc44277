"""Plays one plan: a broker and workers of its own, the faults one after the other, and at the end the truth."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from chaos.broker import Broker, SlowToo
from chaos.plan import Fault, Kind, Plan
from chaos.proxy import slow_proxy
from chaos.source import Source
from infra import config as configuration
from infra.config import Config
from infra.kafka import ensure_topics
from infra.ports import free_ports
from workers import Results, Workers, wait_until, workers

#: How long the job may take, once nothing fails any more, to have counted everything.
SETTLE_S = 120.0
#: How often events are sent, and ended workers started again.
TICK_S = 0.05


class Run:
    """One run of a plan."""

    def __init__(self, plan: Plan, config: Config, broker: Broker, crew: Workers) -> None:
        self._plan, self._config, self._broker, self._crew = plan, config, broker, crew
        self._wanted = plan.workers
        self._paused: dict[subprocess.Popen[bytes], float] = {}  # and when each goes on, in monotonic seconds
        self._source, self._results = Source(config, plan.seed, plan.events), Results(config)

    def play(self) -> None:
        """All faults once the job counts, then everything must be counted. Raises AssertionError where it is not."""
        self._source.send(self._config.partitions)
        wait_until(lambda: self._results.merged > 0, SETTLE_S, self._tick)
        for fault in self._plan.faults:
            self._pass(fault.wait, fault.events)
            self._happen(fault)
        self._source.finish()
        for process in list(self._paused):
            self._resume(process)
        check(self._config, self._source, self._results, self._tick)

    def _pass(self, seconds: float, events: int) -> None:
        """Lets time pass, sending evenly."""
        begun, sent = time.monotonic(), 0
        while sent < events or time.monotonic() - begun < seconds:
            due = int(events * min(1.0, (time.monotonic() - begun) / seconds))
            self._source.send(due - sent)
            sent = due
            self._tick()
            time.sleep(TICK_S)

    def _tick(self) -> None:
        for process, until in list(self._paused.items()):
            if time.monotonic() >= until:
                self._resume(process)
        self._crew.revive(self._wanted)

    def _resume(self, process: subprocess.Popen[bytes]) -> None:
        del self._paused[process]
        process.send_signal(signal.SIGCONT)

    def _happen(self, fault: Fault) -> None:
        self._crew.revive(self._wanted)
        victim = self._crew.running[fault.pick % len(self._crew.running)]
        match fault.kind:
            case Kind.KILL:
                self._paused.pop(victim, None)
                self._crew.kill(victim)
            case Kind.PAUSE:
                victim.send_signal(signal.SIGSTOP)
                self._paused[victim] = time.monotonic() + fault.seconds
            case Kind.START:
                self._wanted += 1
            case Kind.STOP:
                self._wanted -= 1
                self._stop(victim)
            case Kind.RESTART_BROKER:
                self._broker.restart()
            case Kind.PAUSE_BROKER:
                self._broker.pause()
                self._pass(fault.seconds, 0)
                self._broker.resume()
        self._crew.revive(self._wanted)

    def _stop(self, victim: subprocess.Popen[bytes]) -> None:
        """SIGTERM; one that is paused is told when it goes on, and one that has just started has no handler yet."""
        if victim in self._paused:
            self._resume(victim)
        victim.send_signal(signal.SIGTERM)
        assert victim.wait(30) in (0, 1, -signal.SIGTERM), "SIGTERM ends a worker"
        self._crew.running.remove(victim)


def check(config: Config, source: Source, results: Results, tick: Callable[[], None]) -> None:
    """The counts, the ledger and the closings against the truth, once everything is counted."""
    counted = source.expected.total()
    wait_until(lambda: results.merged >= counted, SETTLE_S, tick)
    assert results.counts() == source.expected
    # The three sides, each measured by itself: what the broker took, what stage one routed, what stands in the cells.
    routed = results.routed
    assert source.acknowledged == source.sent == routed.accepted
    assert (routed.counted, routed.late, routed.dead) == (results.counts().total(), source.late, 0)
    assert (len(results.records("late-events")), len(results.records("dead-letters"))) == (source.late, 0)

    every = {(window, partition) for window in source.to_be_closed() for partition in range(config.partitions)}
    wait_until(lambda: every <= {(c.window.start, c.partition) for c in results.closed()}, SETTLE_S, tick)
    closed = Counter((c.window.start, c.partition) for c in results.closed())
    assert set(closed.values()) == {1}
    assert all(cell.final for (window, _, _), cell in results.latest().items() if (window, 0) in every)


def ended(home: Path) -> dict[str, int]:
    """Why workers ended themselves, as their logs say, numbers left out, and how often."""
    lines = [line for log in home.glob("worker-*.log") for line in log.read_text().splitlines()]
    why = [json.loads(line)["error"] for line in lines if line.startswith("{") and '"worker.failed"' in line]
    return dict(Counter(re.sub(r"\d+", "N", text)[:120] for text in why))


def stacks(crew: Workers) -> str:
    """Where the workers that live are in their code: one that hangs says nothing in its log."""
    tool = [str(Path(sys.executable).with_name("py-spy")), "dump", "--pid"]
    living = [str(process.pid) for process in crew.running if process.poll() is None]
    dumps = [subprocess.run([*tool, pid], capture_output=True, text=True, timeout=30, check=False) for pid in living]
    return "\n".join(dump.stdout + dump.stderr for dump in dumps)


@contextmanager
def stage(plan: Plan, home: Path) -> Iterator[Run]:
    """A broker, a proxy where the plan is slow, and no worker yet; all ended with the block. Logs stay in `home`."""
    kafka, controller, inner, outer = free_ports(4)
    own = {
        "WEIR_HOME": str(home / "weir"),
        "WEIR_KAFKA_PORT": str(kafka),
        "WEIR_KAFKA_CONTROLLER_PORT": str(controller),
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    config = configuration.load(own)
    slow = slow_proxy(outer, inner, plan.latency) if plan.latency else nullcontext()
    broker = Broker(SlowToo(config, inner, outer))
    try:
        ensure_topics(config)
        environ = (
            inherited | own | {"WEIR_LOG_FORMAT": "json", "WEIR_KAFKA": f"127.0.0.1:{outer if plan.latency else kafka}"}
        )
        with slow, workers(environ, home) as crew:
            crew.revive(plan.workers)
            try:
                yield Run(plan, config, broker, crew)
            except BaseException:
                (home / "failure.txt").write_text(traceback.format_exc() + stacks(crew))
                raise
    finally:
        broker.end()
