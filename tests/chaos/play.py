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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Generic, TypeVar

from chaos import topics
from chaos.broker import Broker, SlowToo
from chaos.cases import SETTLE_S, Case
from chaos.plan import Fault, Kind, Plan
from chaos.proxy import slow_proxy
from chaos.refusal import check_refused, go_on
from chaos.strangers import Strangers
from support.wait import PATIENCE_S, until
from support.workers import WEIR, Workers, workers
from weir.infra import config as configuration
from weir.infra.config import Config
from weir.infra.kafka.client import ensure_topics
from weir.infra.ports import free_ports
from weir.schemas.topics import DEAD_LETTERS, LATE_EVENTS
from weir.streams.jobs import registry as jobs

C = TypeVar("C", bound=Case)

#: How often events are sent, and ended workers started again.
TICK_S = 0.05
#: So many events tell that the workers work.
FIRST = 8


class Run(Generic[C]):
    """One run of a plan against `case`."""

    def __init__(
        self, plan: Plan, config: Config, case: C, broker: Broker, fleet: Workers, strangers: Strangers
    ) -> None:
        self.case = case
        self._plan, self._config, self._broker, self._crew, self._strangers = plan, config, broker, fleet, strangers
        self._wanted = plan.workers
        self._refusing: str | None = None  # the job that is not started again
        self._paused: dict[subprocess.Popen[bytes], float] = {}  # and when each goes on, in monotonic seconds

    def play(self) -> None:
        """Plays all faults once the job has results, then checks all results. Raises AssertionError if one is wrong."""
        self.case.send(FIRST)
        self._wait_processed(0)
        for fault in self._plan.faults:
            before = self.case.processed() if self._plan.paced else 0
            self._pass(fault.wait, fault.events)
            if self._plan.paced:
                self._wait_processed(before)
            self._happen(fault)
        if not self._plan.ends_refused:
            self.case.finish()
            self._calm()
            self.case.check(self._tick)

    def _calm(self) -> None:
        """Lets what is paused go on, and strangers go."""
        for process in list(self._paused):
            self._resume(process)
        until(lambda: not self._strangers.are_there, self._tick, SETTLE_S)

    def stop(self) -> None:
        """Ends every worker in order."""
        self._wanted = 0
        for process in list(self._crew.running):
            if process.poll() is None:
                self._stop(process)

    def _wait_processed(self, before: int) -> None:
        """Returns once more than that is processed."""
        until(lambda: self.case.processed() > before, self._tick, SETTLE_S)

    def _pass(self, seconds: float, events: int) -> None:
        """Lets time pass, sending evenly."""
        begun, sent = time.monotonic(), 0
        while sent < events or time.monotonic() - begun < seconds:
            due = int(events * min(1.0, (time.monotonic() - begun) / seconds))
            self.case.send(due - sent)
            sent = due
            self._tick()
            time.sleep(TICK_S)

    def _tick(self) -> None:
        for process, end in list(self._paused.items()):
            if time.monotonic() >= end:
                self._resume(process)
        self._strangers.tick()
        self._crew.revive(self._wanted, self._refusing)

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
            case Kind.KILL_ALL:
                for process in self._crew.of(self._crew.jobs[victim]):
                    self._paused.pop(process, None)
                    self._crew.kill(process)
            case Kind.CRASH:
                self._paused.pop(victim, None)
                self._crew.kill(victim)
                self._start_to_crash(self._crew.jobs[victim], fault)
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
            case Kind.RETENTION:
                topics.delete_committed(self._config, self.case.jobs)
                self._paused.pop(victim, None)
                self._crew.kill(victim)
            case Kind.OPEN_TRANSACTION:
                self._strangers.leave_open(*topics.place(self._config, self.case.jobs, fault.pick), fault.seconds)
            case Kind.NEVER_READ:
                until(lambda: self._strangers.never_read(self._crew.jobs, fault.seconds) > 0, self._tick, SETTLE_S)
            case Kind.GROW_ASIDE:
                topics.grow(self._config, DEAD_LETTERS.name, LATE_EVENTS.name)
            case Kind.GROW | Kind.MAKE_ANEW:
                self._end_refused(fault)
        self._crew.revive(self._wanted, self._refusing)

    def _end_refused(self, fault: Fault) -> None:
        """A topic changes that a job relies on: no worker of the job goes on, the other jobs do, and all is exact."""
        self.case.flush()
        self._calm()
        found = [(topic, job) for job in self.case.jobs for topic in topics.relied(self._config, job)]
        topic, self._refusing = found[fault.pick % len(found)]
        if fault.kind is Kind.GROW:
            topics.grow(self._config, topic.name)
        else:
            topics.make_anew(self._config, topic)
        check_refused(self._config, self._crew, self._refusing, topic.name, self._wanted, self._tick)
        go_on(self._config, [job for job in self.case.jobs if job != self._refusing], self._tick)
        self.stop()
        self.case.check_so_far(topic.name, fault.kind is Kind.MAKE_ANEW)

    def _start_to_crash(self, job: str, fault: Fault) -> None:
        topics = [task.topic.name for task in jobs.make(job, self._config).tasks if task.stage != "validate"]
        place = f"{fault.crash}:{topics[fault.pick % len(topics)]}:{fault.times}"
        self._crew.start("--crash-at", place, job=job)

    def _stop(self, victim: subprocess.Popen[bytes]) -> None:
        """SIGTERM; one that is paused is told when it goes on, and one that has just started has no handler yet."""
        if victim in self._paused:
            self._resume(victim)
        victim.send_signal(signal.SIGTERM)
        assert victim.wait(PATIENCE_S) in (0, 1, -signal.SIGTERM), "SIGTERM ends a worker"
        self._crew.running.remove(victim)


def ended(home: Path) -> dict[str, int]:
    """Why workers ended themselves, as their logs say, numbers left out, and how often."""
    lines = [line for log in home.glob("worker-*.log") for line in log.read_text().splitlines()]
    why = [json.loads(line)["error"] for line in lines if line.startswith("{") and '"worker.failed"' in line]
    return dict(Counter(re.sub(r"\d+", "N", text)[:120] for text in why))


def stacks(fleet: Workers) -> str:
    """Where the workers that live are in their code: one that hangs says nothing in its log."""
    tool = [str(Path(sys.executable).with_name("py-spy")), "dump", "--pid"]
    living = [str(process.pid) for process in fleet.running if process.poll() is None]
    dumps = [subprocess.run([*tool, pid], capture_output=True, text=True, timeout=30, check=False) for pid in living]
    return "\n".join(dump.stdout + dump.stderr for dump in dumps)


@contextmanager
def stage(
    plan: Plan,
    home: Path,
    case: Callable[[Config, int, int], C],
    weir: Sequence[str] = WEIR,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Run[C]]:
    """A broker, a proxy where the plan is slow, and the workers that `case` needs; all ended with the block. Logs stay
    in `home`. `weir` is what Python runs as the command of that name, with `environ` added to its environment.
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
        address = f"127.0.0.1:{outer if plan.latency else kafka}"
        around = inherited | own | {"WEIR_LOG_FORMAT": "json", "WEIR_KAFKA": address} | dict(environ or {})
        played = case(config, plan.seed, plan.events)
        with slow, workers(around, home, weir, played.jobs) as fleet:
            fleet.revive(plan.workers)
            try:
                yield Run(plan, config, played, broker, fleet, Strangers(config, home))
            except BaseException:
                (home / "failure.txt").write_text(traceback.format_exc() + stacks(fleet))
                raise
    finally:
        broker.end()
