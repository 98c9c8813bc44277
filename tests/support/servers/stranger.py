"""A program that tries, as another user of the machine, to get into a weir; run by the tests.

`stranger.py USER_ID PORT HOME` gives up root for that user id, or keeps its own user with 0, then tries to log in
without a password file, and to read. Prints what succeeded, as a JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg

from weir.infra.config import Config

ROOT = os.geteuid() == 0
#: A user id that nobody on the machine has; without root the stranger has to be the tests' own user.
STRANGER = 54321 if ROOT else 0
ROLES = ("postgres", "weir", "weir_reader", "administrator", "nobody")


def logins(port: str) -> list[str]:
    """The roles as which one can log in without a password, or with one that is easily guessed."""
    found = []
    for role in ROLES:
        for database in ("weir", "postgres", "template1"):
            for password in ("", "postgres", "weir"):
                address = f"host=127.0.0.1 port={port} user={role} dbname={database} passfile=/nowhere"
                try:
                    psycopg.connect(address, password=password or None, connect_timeout=10).close()
                except psycopg.OperationalError as e:
                    if "password" not in str(e):  # such as: there is no server
                        raise
                else:
                    found.append(f"{role}@{database}")
    return found


def readable(home: Path) -> list[str]:
    """Returns the readable parts of a home that has an embedded Postgres."""
    found = []
    for name in (".", "pgpass", "postgres/pg_hba.conf", "logs/postgres.log"):
        try:
            os.listdir(home) if name == "." else (home / name).read_bytes()
        except PermissionError:
            continue
        found.append(name)
    return found


def tried(config: Config) -> dict[str, Any]:
    """Runs this program as another user, and returns its report on the weir of that configuration."""
    command = [sys.executable, __file__, str(STRANGER), str(config.postgres.port), str(config.home)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    user, port, home = sys.argv[1:]
    if int(user):
        os.setgroups([])
        os.setgid(int(user))
        os.setuid(int(user))
    print(json.dumps({"user": os.geteuid(), "logins": logins(port), "readable": readable(Path(home))}))


if __name__ == "__main__":
    main()
