"""The chains of jobs that lead to answers, derived from what the jobs read and write."""

from __future__ import annotations

from collections.abc import Sequence

from weir.infra.config import Config
from weir.infra.progress.chain import Chain, Step
from weir.schemas.topic import Topic
from weir.streams.jobs import registry as jobs


def chain_to(config: Config, results: Sequence[Topic]) -> Chain:
    """The chain of all jobs between the topic that events come in by and these topics, which one job writes.

    What a job holds whole besides its source (`Job.view`) is not in the chain.
    """
    made = [jobs.make(name, config) for name in jobs.JOBS]
    steps: list[Step] = []
    wanted = {topic.name for topic in results}
    while job := next((job for job in made if wanted & {topic.name for topic in job.writes}), None):
        view = None if job.view is None else job.view.topic.name
        steps[:0] = [Step(job.name, task.topic.name) for task in job.tasks if task.topic.name != view]
        made.remove(job)
        wanted = {job.source.name}
    return Chain(steps, [topic.name for topic in results])
