"""Autobahn's WebSocket test suite against an echo route on weir's own server: `make autobahn`.

    python tests/support/websocket/autobahn.py python2.7 [CASE…]

The suite runs on Python 2.7 only; it is installed into build/autobahn the first time. Every case has to be OK, but for
those that judge nothing (INFORMATIONAL): what the suite calls NON-STRICT fails here. Left out are 12.* and 13.*, which
are about compression: weir agrees to none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "build/autobahn"
SUITE = FOLDER / "suite"
_OK = ("OK", "INFORMATIONAL")


def install(python: str) -> None:
    """The suite, with what it needs, for that Python 2.7."""
    if (SUITE / ".ready").exists():
        return
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--target", str(SUITE), "autobahntestsuite==25.10.1"], check=True
    )
    # A namespace package, which installing it with --target leaves without its top.
    (SUITE / "zope/__init__.py").touch()
    (SUITE / ".ready").touch()


def play(python: str, cases: list[str]) -> dict[str, dict[str, str]]:
    """Runs the cases; each with what came of it."""
    environ = os.environ | {"PYTHONPATH": f"{ROOT}"}
    server = subprocess.Popen(
        [sys.executable, ROOT / "tests/support/websocket/websocket_echo.py", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        spec = FOLDER / "spec.json"
        spec.write_text(
            json.dumps(
                {
                    "outdir": str(FOLDER / "reports"),
                    "servers": [{"agent": "weir", "url": url}],
                    "cases": cases or ["*"],
                    "exclude-cases": ["12.*", "13.*"],
                    "exclude-agent-cases": {},
                }
            )
        )
        subprocess.run(
            [python, "-m", "autobahntestsuite.wstest", "--mode", "fuzzingclient", "--spec", str(spec)],
            env=os.environ | {"PYTHONPATH": str(SUITE)},
            stdout=subprocess.DEVNULL,
            timeout=1800,
            check=True,
        )
    finally:
        server.kill()
        server.wait()
    found: dict[str, dict[str, str]] = json.loads((FOLDER / "reports/index.json").read_text())["weir"]
    return found


def main() -> None:
    python, *cases = sys.argv[1:]
    FOLDER.mkdir(parents=True, exist_ok=True)
    install(python)
    results = play(python, cases)
    print(dict(Counter(result["behavior"] for result in results.values())), "of", len(results), "cases")
    failed = {
        case: result for case, result in results.items() if {result["behavior"], result["behaviorClose"]} - set(_OK)
    }
    for case, result in sorted(failed.items()):
        print(case, result)
    sys.exit(bool(failed) or not results)


if __name__ == "__main__":
    main()
