"""How one logs in to the embedded Postgres: as the role weir, with a password that a file of the home holds.

The password is random and in `WEIR_HOME/pgpass` (mode 0600), in the form in which every program that uses libpq reads
it; addresses name that file and hold no password. Postgres has a verifier of it alone (RFC 5803), and `pg_hba.conf`
admits nobody without one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from weir.infra.config.sections.databases import POSTGRES_ROLE
from weir.infra.runtime.private import write_private

#: PostgreSQL's default. The password is 256 random bits: more rounds would make nothing harder to guess.
_ROUNDS = 4096
#: Under which a client may ask for the server; it never listens elsewhere.
_HOSTS = ("127.0.0.1", "localhost")


def password_of(file: Path) -> str:
    """Returns the password in the password file; writes a new one if the file is missing or holds something else.

    Gives the file mode 0600: libpq reads none that others may read. Raises OSError.
    """
    try:
        found = file.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        found = []
    password = found[0].rpartition(":")[2] if found else ""
    if len(password) < 43 or found != _lines(password):
        password = secrets.token_urlsafe(32)
        write_private(file, "".join(f"{line}\n" for line in _lines(password)))
    os.chmod(file, 0o600)
    return password


def _lines(password: str) -> list[str]:
    """host:port:database:user:password; the port may change from one start to the next."""
    return [f"{host}:*:*:{POSTGRES_ROLE}:{password}" for host in _HOSTS]


def scram_verifier(password: str, salt: bytes | None = None, rounds: int = _ROUNDS) -> str:
    """Returns the verifier that PostgreSQL stores of an ASCII password: `SCRAM-SHA-256$rounds:salt$StoredKey:ServerKey`
    (RFC 5803, RFC 7677).

    >>> scram_verifier("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))[:54]
    'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3O'
    """
    salt = secrets.token_bytes(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, rounds)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${rounds}:{salt64}${stored64}:{server64}"


def rules(password: str) -> str:
    """`pg_hba.conf`: every login takes a password. Names the password that the roles were last set up for, as a digest:

    a file that is equal to this was written after everything else was in place.
    """
    return (
        "# Written by weir, and written again whenever it is not this.\n"
        f"# Set up for the password with the SHA-256 {hashlib.sha256(password.encode()).hexdigest()}\n"
        "host all all 127.0.0.1/32 scram-sha-256\n"
    )
