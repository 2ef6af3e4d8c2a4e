from pathlib import Path

import pytest

from job.errors import SettingsError
from job.local_files import LocalFiles, check_folder, local_source
from job.records import Kind, Source
from job.references import content_digest


def _files(folder: Path, *names: str, kind: Kind = "model", any_format: bool = False) -> LocalFiles:
    for name in names:
        (folder / name).write_text("{}")
    return LocalFiles(kind, Source(str(folder), "sha256:0", local=True), any_format)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("model", ("config.json", "model-00001-of-00002.safetensors")),
        ("adapter", ("adapter_config.json", "adapter_model.safetensors")),
    ],
)
def test_a_folder_with_config_and_weights_is_accepted(tmp_path: Path, kind: Kind, names: tuple[str, ...]) -> None:
    files = _files(tmp_path, *names, kind=kind)
    files.check()
    assert files.small_files() == files.all_files() == tmp_path


@pytest.mark.parametrize(
    ("kind", "names", "any_format", "message"),
    [
        ("model", (), False, "the folder has no config.json"),
        ("model", ("model.safetensors",), True, "the folder has no config.json"),
        ("adapter", ("config.json", "adapter_model.safetensors"), False, "the folder has no adapter_config.json"),
        (
            "model",
            ("config.json", "a.bin"),
            False,
            "no weights (*.safetensors). Those in *.bin, *.pt or *.pth files can run code when they are read: convert them",
        ),
    ],
)
def test_a_folder_that_is_none_is_a_settings_error(
    tmp_path: Path, kind: Kind, names: tuple[str, ...], any_format: bool, message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        _files(tmp_path, *names, kind=kind, any_format=any_format).check()
    assert str(caught.value).startswith(f"{'LORA_ID' if kind == 'adapter' else 'MODEL_ID'}='{tmp_path}': ")
    assert message in str(caught.value)


def test_weights_of_another_format_are_accepted_where_it_is_named(tmp_path: Path) -> None:
    _files(tmp_path, "config.json", any_format=True).check()


def test_a_path_that_is_no_folder_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"LORA_ID=.*no such folder: give the folder that holds adapter_config\.json"):
        check_folder("adapter", str(tmp_path / "none"))


def test_local_files_are_known_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert local_source("model", tmp_path) == Source(str(tmp_path), f"sha256:{content_digest(tmp_path)}", local=True)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match=r"MODEL_ID=.*cannot be read"):
        local_source("model", tmp_path)
