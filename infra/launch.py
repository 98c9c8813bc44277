"""Turns this process into another program that ends when its parent does, whatever ends the parent.

Run by path, in a bare interpreter (`python -I -S launch.py PARENT SIGNAL USER PROGRAM ARG…`), by `infra.processes`:
code between fork and exec is no place for this in a program that has threads, so this file imports nothing of ours.
"""

import ctypes
import os
import pwd
import signal
import struct
import sys

# linux/prctl.h and linux/capability.h
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1


def become(user: str) -> None:
    """Gives up root for `user`, but keeps the right to pass folders that only root may pass.

    PostgreSQL refuses to run as root. Without that right, every folder above its programs and its data (/root, say)
    would have to be opened to everybody.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    entry = pwd.getpwnam(user)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    only = 1 << CAP_DAC_OVERRIDE
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    effective_permitted_inheritable = struct.pack("=6I", only, only, only, 0, 0, 0)
    libc.capset(header, effective_permitted_inheritable)
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def end_with_parent(parent: int, number: int) -> None:
    """Asks the kernel for signal `number` at the end of `parent`. After `become`: a change of user forgets it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the kernel was asked
            sys.exit(1)


def main() -> None:
    """Becomes the program. Python ignores SIGPIPE, and what it ignores a new program would ignore too."""
    parent, number, user, *command = sys.argv[1:]
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if user:
        become(user)
    end_with_parent(int(parent), int(number))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
