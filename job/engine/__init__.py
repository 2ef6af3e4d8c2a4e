"""Whatever generates the answers. `choose_backend` imports only the one that is used."""

from job.protocols import Backend, ModelFiles
from job.settings import Settings


def choose_backend(settings: Settings, model: ModelFiles, adapter: ModelFiles | None) -> Backend:
    """The backend that ENGINE names."""
    if settings.engine.engine == "echo":
        from job.engine.echo import EchoBackend

        return EchoBackend(settings)
    from job.engine.vllm import VllmBackend

    return VllmBackend(settings, model, adapter)
