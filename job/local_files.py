"""A model or adapter in a folder on this machine."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from job.errors import Problem, SettingsError
from job.records import Kind, Source
from job.references import content_digest

VARIABLES: dict[Kind, str] = {"model": "MODEL_ID", "adapter": "LORA_ID", "dataset": "DATASET_ID"}
CONFIGS: dict[Kind, str] = {"model": "config.json", "adapter": "adapter_config.json"}
ADAPTER_WEIGHTS = "adapter_model.safetensors"
# Other forms of weights are pickle for the most part, which can run code while it is read.
NO_WEIGHTS: dict[Kind, str] = {
    "model": "no weights (*.safetensors). Those in *.bin, *.pt or *.pth files can run code when they are read: convert them, "
    "with save_pretrained of transformers for example, or, where you trust who made them, ask for them with "
    'ENGINE_ARGS={"load_format": "hf"}',
    "adapter": f"no {ADAPTER_WEIGHTS}. Weights in adapter_model.bin can run code when they are read: save the adapter again "
    "with PEFT's save_pretrained",
}


def check_folder(kind: Kind, reference: str) -> Path:
    """The folder that MODEL_ID or LORA_ID names. Raises: SettingsError where there is none."""
    path = Path(reference).expanduser()
    if not path.is_dir():
        message = f"no such folder: give the folder that holds {CONFIGS[kind]} and the weights, or a Hub id"
        raise SettingsError([Problem(VARIABLES[kind], reference, message)])
    return path


def has_safe_weights(kind: Kind, names: Iterable[str]) -> bool:
    """Whether the engine finds weights in safetensors among these paths of files: in the folder itself, not below."""
    return any(
        name == ADAPTER_WEIGHTS if kind == "adapter" else fnmatch(name, "*.safetensors") for name in names if "/" not in name
    )


def local_source(kind: Kind, path: Path) -> Source:
    """Local files at the digest of their content. Raises: SettingsError where they cannot be read."""
    try:
        return Source(str(path), f"sha256:{content_digest(path)}", local=True)
    except OSError as error:
        raise SettingsError([Problem(VARIABLES[kind], str(path), f"cannot be read: {error}")]) from error


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Files that are all here. any_format: whether weights may have another form than safetensors."""

    kind: Kind
    source: Source
    any_format: bool

    def check(self) -> None:
        folder = check_folder(self.kind, self.source.name)
        if not (folder / CONFIGS[self.kind]).is_file():
            raise self._problem(f"the folder has no {CONFIGS[self.kind]}")
        if not self.any_format and not has_safe_weights(self.kind, (path.name for path in folder.iterdir())):
            raise self._problem(f"the folder has {NO_WEIGHTS[self.kind]}")

    def small_files(self) -> Path:
        return Path(self.source.name)

    def all_files(self) -> Path:
        return Path(self.source.name)

    def _problem(self, message: str) -> SettingsError:
        return SettingsError([Problem(VARIABLES[self.kind], self.source.name, message)])
