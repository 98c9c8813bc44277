"""`python -m weir` is the command `weir`."""

from __future__ import annotations

from weir.cli.main import main

if __name__ == "__main__":
    main()
