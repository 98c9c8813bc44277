"""A worker whose allocations are recorded by memray, to the file that `TRACED_TO` names: run as `weir.cli.main` is."""

from __future__ import annotations

import os

import memray

from weir.cli import main

if __name__ == "__main__":
    with memray.Tracker(os.environ["TRACED_TO"]):
        main.main()
