"""`python -m job.fetch`: download the files of the model and adapter that the environment names, and nothing else.

For what comes before the job: a loop that generates with one model while the next one is downloaded, or a machine that fills
the cache of another one. It reads the job's own variables, all of them, and ends with its errors and exit codes.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from job.errors import StoppedError
from job.local_files import check_folder
from job.model_files import files_of
from job.process import as_process
from job.protocols import Hub
from job.records import Kind
from job.references import is_local
from job.settings import Settings
from job.shutdown import StopSignal, breaking_off

_NICENESS = 10  # it may have a neighbour that generates


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


def run() -> int:
    """All of it, as this process. Returns: the exit code."""

    def work(stop: StopSignal) -> int:
        os.nice(_NICENESS)
        from job.hub import connect
        from job.main import carry_out

        def stopped() -> StoppedError:
            return StoppedError(f"stopped by {stop.signal}; what has come is kept. Run the same command again to go on.")

        def fetch_unless_stopped(settings: Settings) -> Mapping[str, object]:
            stop.grace_seconds = 0  # nothing is begun that would have to be finished
            with breaking_off(stop, stopped):
                return fetch(settings, connect(settings.hub, stop))

        return carry_out(os.environ, stop, fetch_unless_stopped)

    return as_process(work)


if __name__ == "__main__":
    sys.exit(run())
