"""Writes `kafka.lock`: what Apache Kafka and its logging need, resolved to exact files. Run by `make lock`.

Three resolutions, joined with Kafka's first: in a single one, log4j's managed versions win over Kafka's own, and the
server dies of a kafka-clients that is too old.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from weir.infra.servers.jars import KAFKA_VERSION, Jar

LOG4J_VERSION = "2.24.3"
ROOTS = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.apache.logging.log4j", "log4j-core", LOG4J_VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
)


def resolve(cache: Path) -> list[Jar]:
    """Every jar that the roots need at run time, each project once, downloaded into `cache`."""
    from jgo.maven import MavenContext, PythonResolver
    from jgo.parse import Coordinate

    maven = MavenContext(resolver=PythonResolver(), repo_cache=cache, local_repos=[])
    found: dict[tuple[str, str], Jar] = {}
    for group, artifact, version in ROOTS:
        root = Coordinate(group, artifact, version, scope="compile")
        inputs, others = maven.resolver.resolve([maven.create_dependency(root)])
        for dependency in [*inputs, *(d for d in others if d.scope in ("compile", "runtime"))]:
            if (dependency.groupId, dependency.artifactId) not in found:
                data = dependency.artifact.resolve().read_bytes()
                found[dependency.groupId, dependency.artifactId] = Jar(
                    dependency.groupId,
                    dependency.artifactId,
                    dependency.version,
                    hashlib.sha256(data).hexdigest(),
                    len(data),
                )
    return list(found.values())


def main() -> None:
    """Resolves and writes."""
    with tempfile.TemporaryDirectory() as cache:
        jars = resolve(Path(cache))
    lines = [f"{jar.group}:{jar.artifact}:{jar.version} {jar.sha256} {jar.size}\n" for jar in jars]
    Path(__file__).with_name("kafka.lock").write_text("".join(lines))


if __name__ == "__main__":
    main()
