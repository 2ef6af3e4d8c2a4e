"""What vLLM must know of a model's class before it starts, found out without starting Python anew.

vLLM 0.32 imports the class in a process of its own, so that its own stays free of CUDA, and keeps what it found in its cache.
That process imports all of vLLM again: 8 to 10 s of every start with an empty cache, as in a fresh container. A fork of this
process has imported it already. benchmarks/RESULTS.md, section start.
"""

import logging
import multiprocessing
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from job.files import read_json

_PATIENCE = 60.0  # seconds


def fill_cache(folder: Path) -> None:
    """After vLLM was imported, before its settings are checked: have a fork keep what vLLM asks about the model in `folder`.

    Where that does not work out, vLLM finds it out its own way and says what is wrong.
    """
    names = architectures(folder)
    if not names:
        return
    process = multiprocessing.get_context("fork").Process(target=_inspect, args=(names,), name="inspection", daemon=True)
    with suppress(OSError):  # no memory or no more processes: vLLM's own way fails at that too, and says so
        process.start()
        process.join(_PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()


def architectures(folder: Path) -> Sequence[str]:
    """Names of the model's classes; none where its files do not say."""
    with suppress(OSError, ValueError, AttributeError):
        names = read_json(folder / "config.json").get("architectures")
        if isinstance(names, list):
            return [name for name in names if isinstance(name, str)]
    return []


def _inspect(names: Sequence[str]) -> None:
    """In the fork, which needs no other process to keep its parent free of CUDA. What fails here is said by vLLM once more."""
    for number in (signal.SIGTERM, signal.SIGINT):  # the job's own handlers are for the job
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    with suppress(Exception):
        from vllm.model_executor.models import registry
        from vllm.plugins import load_general_plugins

        load_general_plugins()
        registry._run_in_subprocess = lambda found: found()  # noqa: SLF001 (its only entrance)
        for model in filter(None, map(registry.ModelRegistry.models.get, names)):
            with suppress(Exception):
                model.inspect_model_cls()
