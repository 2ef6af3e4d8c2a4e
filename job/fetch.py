"""`python -m job.fetch`: download the files of the model and adapter that the environment names, and nothing else.

For what comes before the job: a loop that generates with one model while the next one is downloaded, or a machine that fills
the cache of another one. It reads the job's own variables, all of them, and ends with its errors and exit codes.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from job.errors import StoppedError
from job.local_files import check_folder
from job.model_files import files_of
from job.protocols import Hub, Stop
from job.records import Kind
from job.references import is_local
from job.settings import HubSettings, Settings
from job.shutdown import StopSignal, breaking_off, ignore_signals, listen

_NICENESS = 10  # it may have a neighbour that generates

T = TypeVar("T")


def fetch(settings: Settings, hub: Hub) -> Mapping[str, object]:
    """Have all files of model and adapter on this machine.

    Returns: fields for the last line: where they are, and how many bytes the weights have, None where the engine needs none.
    Raises: SettingsError, AccessError, HubUnavailableError, OutputError.
    """
    folders: dict[str, str] = {kind: str(folder) for kind, folder in _folders(settings, hub)}
    if not folders:
        return {"message": f"ENGINE={settings.engine.engine} needs no files"}
    weights = sum(path.stat().st_size for folder in folders.values() for path in Path(folder).glob("*.safetensors"))
    where = " and ".join(f"{kind} in {folder}" for kind, folder in folders.items())
    return {"message": f"everything is there: {where}", **folders, "weights_bytes": weights}


def _folders(settings: Settings, hub: Hub) -> Iterator[tuple[Kind, Path]]:
    model = settings.model
    wanted: list[tuple[Kind, str | None, str]] = [
        ("adapter", model.lora_id, model.lora_revision),  # small, so before the model
        ("model", model.model_id, model.model_revision),
    ]
    for kind, reference, revision in wanted:
        if not reference or settings.engine.engine == "echo":
            continue
        if is_local(reference):
            yield kind, check_folder(kind, reference)
            continue
        files = files_of(settings, hub, kind, reference, revision)
        files.check()
        yield kind, files.all_files()


def _stoppable(settings: Settings, stop: StopSignal, connect: Callable[[HubSettings, Stop], Hub]) -> Mapping[str, object]:
    def stopped() -> StoppedError:
        return StoppedError(f"stopped by {stop.signal}; what has come is kept. Run the same command again to go on.")

    with breaking_off(stop, stopped):
        return _abandonable(lambda: fetch(settings, connect(settings.hub, stop)))


def _abandonable(work: Callable[[], T]) -> T:
    """What `work` returns or raises. It has a thread of its own: the library's way out of a download is to wait for its end."""
    outcome: Future[T] = Future()

    def attempt() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=attempt, name="fetch", daemon=True).start()
    return outcome.result()


def run() -> int:
    """All of it, as this process. Returns: the exit code."""
    stop = StopSignal()
    listen(stop)
    os.nice(_NICENESS)
    from job.hub import connect
    from job.main import carry_out

    code = carry_out(os.environ, stop, lambda settings: _stoppable(settings, stop, connect))
    ignore_signals()
    return code


if __name__ == "__main__":
    status = run()
    sys.stdout.flush()
    os._exit(status)  # without waiting for the threads of a download that was abandoned
