"""The files of what MODEL_ID or LORA_ID names, wherever they are."""

from job.local_files import LocalFiles, check_folder, local_source
from job.protocols import Hub, ModelFiles
from job.records import Kind, Source
from job.references import is_local
from job.settings import Settings


def files_of(settings: Settings, hub: Hub, kind: Kind, reference: str, revision: str) -> ModelFiles:
    """The files of a model or adapter, at the commit that its revision stands for now. None is fetched yet.

    Raises: SettingsError, AccessError, HubUnavailableError.
    """
    any_format = kind == "model" and "load_format" in settings.engine.engine_args
    if settings.engine.engine == "echo":  # reads no files
        return LocalFiles(kind, Source(reference, "none", local=False), any_format)
    if is_local(reference):
        return LocalFiles(kind, local_source(kind, check_folder(kind, reference)), any_format)
    return hub.files(kind, hub.resolve(kind, reference, revision), any_format=any_format)
