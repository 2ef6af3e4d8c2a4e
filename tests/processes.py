"""The processes of a running job, as the kernel sees them."""

import subprocess
import time
from pathlib import Path


def descendants(pid: int) -> set[int]:
    """The processes that this one started, and those that they did, as far as they are there."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [(int(child), int(parent)) for child, parent in map(str.split, listed.splitlines())]
    found: set[int] = set()
    fresh = {pid}
    while fresh:
        fresh = {child for child, parent in pairs if parent in fresh} - found
        found |= fresh
    return found


def alive(pids: set[int]) -> set[int]:
    """Those of the processes that still run; a zombie does not."""
    running = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state != "Z":
            running.add(pid)
    return running


def command_of(pid: int) -> str:
    """Its command line, empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def assert_gone(pids: set[int]) -> None:
    """Within seconds: multiprocessing's resource tracker ends a moment after the process that it serves."""
    deadline = time.monotonic() + 10
    while alive(pids):
        assert time.monotonic() < deadline, f"outlived its parent: {alive(pids)}"
        time.sleep(0.05)
