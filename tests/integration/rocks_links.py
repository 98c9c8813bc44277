"""`weir` with the links job kept in RocksDB: `python rocks_links.py worker links`."""

from __future__ import annotations

import dataclasses

from infra.cli import main
from infra.config import Config
from streams import jobs, links
from streams.engine.job import Job


def kept(config: Config) -> Job:
    return dataclasses.replace(links.job(config), store="rocksdb")


jobs.JOBS["links"] = kept

if __name__ == "__main__":
    main.main()
