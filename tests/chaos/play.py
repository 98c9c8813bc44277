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
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from chaos.broker import Broker, SlowToo
from chaos.cases import CASES, SETTLE_S, Case
from chaos.plan import Fault, Kind, Plan
from chaos.proxy import slow_proxy
from infra import config as configuration
from infra.kafka import ensure_topics
from infra.ports import free_ports
from workers import Workers, wait_until, workers

#: How often events are sent, and ended workers started again.
TICK_S = 0.05
#: So many events tell that the workers work.
FIRST = 8


class Run:
    """One run of a plan."""

    def __init__(self, plan: Plan, case: Case, broker: Broker, crew: Workers) -> None:
        self._plan, self._case, self._broker, self._crew = plan, case, broker, crew
        self._wanted = plan.workers
        self._paused: dict[subprocess.Popen[bytes], float] = {}  # and when each goes on, in monotonic seconds

    def play(self) -> None:
        """All faults once something comes out, then everything must be as it should. Raises AssertionError else."""
        self._case.send(FIRST)
        wait_until(self._case.begun, SETTLE_S, self._tick)
        for fault in self._plan.faults:
            self._pass(fault.wait, fault.events)
            self._happen(fault)
        self._case.finish()
        for process in list(self._paused):
            self._resume(process)
        self._case.check(self._tick)

    def _pass(self, seconds: float, events: int) -> None:
        """Lets time pass, sending evenly."""
        begun, sent = time.monotonic(), 0
        while sent < events or time.monotonic() - begun < seconds:
            due = int(events * min(1.0, (time.monotonic() - begun) / seconds))
            self._case.send(due - sent)
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
def stage(plan: Plan, home: Path, case: str = "links") -> Iterator[Run]:
    """A broker, a proxy where the plan is slow, and the workers that `case` needs; all ended with the block. Logs stay
    in `home`.
    """
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
        played = CASES[case](config, plan.seed, plan.events)
        with slow, workers(environ, home, jobs=played.jobs) as crew:
            crew.revive(plan.workers)
            try:
                yield Run(plan, played, broker, crew)
            except BaseException:
                (home / "failure.txt").write_text(traceback.format_exc() + stacks(crew))
                raise
    finally:
        broker.end()
