"""Turns this process into another program that ends when its parent does, whatever ends the parent.

Run by path, in a bare interpreter (`python -I -S launch.py PARENT SIGNAL USER PROGRAM ARG…`), by
`weir.infra.supervisor.processes`: code between fork and exec is no place for this in a program that has threads, so
this file imports nothing of ours.
"""

import ctypes
import os
import pwd
import signal
import struct
import sys

# linux/prctl.h and linux/capability.h
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_VERSION_3 = 0x20080522


def become(user: str) -> None:
    """Gives up root for `user`, for good: no capability is left in any set, and no program gives one back.

    Raises OSError where the kernel does not permit it.
    """
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    # A change of user clears neither the inheritable set nor, with certain secure bits, any other.
    if libc.capset(header, bytes(24)) or libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"capabilities cannot be given up: {os.strerror(ctypes.get_errno())}")


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
