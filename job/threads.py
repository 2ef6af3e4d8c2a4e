"""Threads for work that is done outside of the interpreter's lock, such as the hashing of files."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def thread_pool() -> Iterator[ThreadPoolExecutor]:
    """A pool that is waited for where the block ends, and not where an error or a signal breaks it off."""
    pool = ThreadPoolExecutor()
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
