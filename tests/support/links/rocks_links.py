"""`weir` with the links job kept in RocksDB: `python rocks_links.py worker links`."""

from __future__ import annotations

import dataclasses

from weir.cli import main
from weir.infra.config import Config
from weir.streams.engine.core.job import Job
from weir.streams.jobs import links
from weir.streams.jobs import registry as jobs


def kept(config: Config) -> Job:
    return dataclasses.replace(links.job(config), store="rocksdb")


jobs.JOBS.register("links", kept, replace=True)

if __name__ == "__main__":
    main.main()
