"""Threads share one place of memory where they are told to."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Eight threads take memory at the same time; then glibc says where from.
SCRIPT = """
import ctypes, sys, threading
from weir.infra.runtime.interpreter import share_memory
if sys.argv[1] == "shared":
    share_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
begun = threading.Barrier(8)
def take():
    begun.wait()
    for _ in range(100):
        libc.malloc(ctypes.c_size_t(5000))
    begun.wait()
threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_stats()
"""


@pytest.mark.parametrize("way", ["shared", "as usual"])
def test_threads_have_an_arena_each_but_where_they_share_one(way: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, way], capture_output=True, text=True, check=True, timeout=60)
    arenas = [line for line in done.stderr.splitlines() if line.startswith("Arena ")]
    assert (len(arenas) == 1) is (way == "shared")
