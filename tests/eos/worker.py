"""`weir`, knowing the jobs of the system test: `python -m eos.worker worker EosTest`, with `tests` on the path."""

from __future__ import annotations

from eos import jobs
from weir.cli import main

if __name__ == "__main__":
    jobs.register()
    main.main()
