from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from job.engine.echo import EchoBackend
from job.errors import DatasetError, SettingsError
from job.plan import Plan, make_plan
from job.protocols import Backend, ModelFiles
from job.records import Kind, Source
from job.references import content_digest
from job.settings import Settings
from tests.support import write_jsonl
from tests.unit.builders import COMMIT, FakeFiles, FakeHub, settings, template_file


class FakeBackend(EchoBackend):
    """The echo engine under the name of a real one."""

    facts = {"name": "vllm", "version": "1.2.3"}

    def __init__(self) -> None:
        pass


def _backend(_settings: Settings, _model: ModelFiles, _adapter: ModelFiles | None) -> Backend:
    return FakeBackend()


def _plan(rows: Path, **variables: object) -> Plan:
    return make_plan(settings(DATASET_ID=rows, **variables), FakeHub(), _backend)


def _refused(kind: type[Exception], plan: Callable[[], Plan]) -> str:
    with pytest.raises(kind) as caught:
        plan()
    return str(caught.value)


def test_a_plan_names_everything_that_is_to_be_done(three_rows: Path, output: Path) -> None:
    plan = _plan(three_rows, OUTPUT_DIR=output)
    assert plan.model == Source("org/model", COMMIT, local=False)
    assert plan.data == Source(str(three_rows), f"sha256:{content_digest(three_rows)}", local=True)
    assert plan.rows.rows == 3
    assert plan.template.facts["template"] == "alpaca"
    assert plan.folder == output / "model" / plan.identity.short
    assert plan.identity.facts["engine"] == {"name": "vllm", "version": "1.2.3"}
    assert plan.identity.facts["dataset"] == {"commit": plan.data.commit}
    assert not output.exists()


def test_model_and_adapter_are_looked_up_at_their_revisions(three_rows: Path, output: Path) -> None:
    hub = FakeHub()
    chosen = settings(DATASET_ID=three_rows, MODEL_REVISION="v2", LORA_ID="me/lora", LORA_REVISION="v3", OUTPUT_DIR=output)
    plan = make_plan(chosen, hub, _backend)
    assert hub.asked == [("model", "org/model", "v2"), ("adapter", "me/lora", "v3")]
    assert plan.adapter == Source("me/lora", COMMIT, local=False)
    assert plan.identity.facts["adapter"] == {"id": "me/lora", "commit": COMMIT}
    assert plan.folder.parent.name == plan.name == "model-lora"


def test_the_dataset_is_looked_up_where_it_is_on_the_hub() -> None:
    class FoundError(Exception):
        pass

    hub = FakeHub(error=FoundError())
    with pytest.raises(FoundError):
        make_plan(settings(DATASET_REVISION="v3"), hub, _backend)
    assert hub.asked == [("dataset", "org/data", "v3")]


def test_the_right_to_publish_is_asked_for_before_anything_is_looked_up(three_rows: Path) -> None:
    hub = FakeHub()
    plan = make_plan(settings(DATASET_ID=three_rows, HUB_NAMESPACE="me"), hub, _backend)
    assert hub.asked == [("check_target", "me/model-results"), ("model", "org/model", "main")]
    assert plan.repo_id == "me/model-results"


@pytest.mark.parametrize(
    ("variables", "repo_id"),
    [
        ({}, None),
        ({"HUB_NAMESPACE": "me", "PUSH_TO_HUB": "false"}, None),
        ({"HUB_NAMESPACE": "me", "HUB_REPO_ID": "we/answers"}, "we/answers"),
        ({"HUB_NAMESPACE": "me", "LORA_ID": "you/lora"}, "me/model-lora-results"),
    ],
)
def test_results_go_where_the_settings_say(three_rows: Path, variables: dict[str, str], repo_id: str | None) -> None:
    assert _plan(three_rows, **variables).repo_id == repo_id


def test_a_name_that_is_too_long_for_the_hub_is_a_settings_error(three_rows: Path) -> None:
    message = _refused(SettingsError, lambda: _plan(three_rows, HUB_NAMESPACE="me", LORA_ID=f"you/{'x' * 90}"))
    assert "longer than the 96 characters that the Hub allows: choose a name with HUB_REPO_ID" in message


def test_the_echo_engine_needs_no_model(three_rows: Path) -> None:
    hub = FakeHub()
    plan = make_plan(settings(ENGINE="echo", MODEL_ID="any/name", DATASET_ID=three_rows), hub, _backend)
    assert plan.model == Source("any/name", "none", local=False)
    assert plan.folder.parent.name == "name"
    assert hub.asked == []


@pytest.mark.parametrize(
    ("variable", "reference"),
    [
        *(("MODEL_ID", reference) for reference in ("org/..", "org/.", "/", "org/", "org/a\nb")),
        *(("LORA_ID", reference) for reference in ("me/..", "me/\x1b[2J", "me/\u202ex")),
    ],
)
def test_a_name_that_would_lead_out_of_the_output_folder_or_cannot_be_shown_is_refused(
    three_rows: Path, variable: str, reference: str
) -> None:
    message = _refused(SettingsError, lambda: _plan(three_rows, **{"ENGINE": "echo", variable: reference}))
    assert message.startswith(f"{variable}={reference!r}: its last part, which names the folder")


def test_a_load_format_is_about_the_model_and_not_the_adapter(three_rows: Path) -> None:
    class Noting(FakeHub):
        asked_for: dict[Kind, bool] = {}

        def files(self, kind: Kind, source: Source, *, any_format: bool) -> FakeFiles:
            self.asked_for[kind] = any_format
            return FakeFiles(source)

    chosen = settings(DATASET_ID=three_rows, LORA_ID="me/lora", ENGINE_ARGS='{"load_format": "hf"}')
    make_plan(chosen, Noting(), _backend)
    assert Noting.asked_for == {"model": True, "adapter": False}


def test_a_local_model_is_known_by_its_content(three_rows: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    one = _plan(three_rows, MODEL_ID=folder)
    assert one.model == Source(str(folder), f"sha256:{content_digest(folder)}", local=True)
    assert one.folder.parent.name == "my-model"
    (folder / "config.json").write_text('{"a": 1}')
    assert _plan(three_rows, MODEL_ID=folder).identity.digest != one.identity.digest


def test_a_local_model_that_is_missing_is_a_settings_error(three_rows: Path, tmp_path: Path) -> None:
    message = _refused(SettingsError, lambda: _plan(three_rows, MODEL_ID=tmp_path / "none"))
    assert message.startswith(f"MODEL_ID='{tmp_path}/none': no such folder: give the folder that holds config.json")


def test_a_local_model_that_cannot_be_read_is_a_settings_error(three_rows: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").symlink_to(tmp_path / "gone")
    message = _refused(SettingsError, lambda: _plan(three_rows, MODEL_ID=tmp_path / "model"))
    assert message.startswith(f"MODEL_ID='{tmp_path}/model': cannot be read: ")
    assert "gone" in message or "config.json" in message


def test_a_local_dataset_that_is_missing_is_a_dataset_error(tmp_path: Path) -> None:
    message = _refused(DatasetError, lambda: _plan(tmp_path / "none.jsonl"))
    assert message.startswith(f"DATASET_ID={tmp_path}/none.jsonl: no such file or folder.")


def test_a_column_with_the_name_of_a_result_is_refused_until_it_is_dropped(tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"instruction": "a", "answers": "b"}])
    assert "DROP_COLUMNS=answers" in _refused(DatasetError, lambda: _plan(rows))
    assert _plan(rows, DROP_COLUMNS="answers").rows.rows == 1


def test_the_instruction_column_is_asked_for_by_the_templates_that_use_it(tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"question": "a"}])
    for template in ("alpaca", "chat"):
        message = _refused(DatasetError, lambda name=template: _plan(rows, PROMPT_TEMPLATE=name))  # type: ignore[misc]
        assert message == "INSTRUCTION_COLUMN=instruction: no such column. The columns are: question."
    file = template_file(tmp_path, "{{ question }}")
    assert list(_plan(rows, PROMPT_TEMPLATE=file).template.columns) == ["question"]


def test_a_template_that_uses_an_unknown_column_is_a_settings_error(three_rows: Path, tmp_path: Path) -> None:
    file = template_file(tmp_path, "{{ question }}")
    message = _refused(SettingsError, lambda: _plan(three_rows, PROMPT_TEMPLATE=file))
    assert message == f"PROMPT_TEMPLATE='{file}': uses question; the columns are: instruction, id"


def test_commits_and_columns_are_logged_as_they_are_found(three_rows: Path) -> None:
    with capture_logs() as logs:
        plan = _plan(three_rows)
    assert logs == [
        {"event": "dataset_loaded", "log_level": "info", "rows": 3, "columns": ["instruction", "id"]},
        {
            "event": "commits_resolved",
            "log_level": "info",
            "model_id": "org/model",
            "model_commit": COMMIT,
            "dataset_id": str(three_rows),
            "dataset_commit": plan.data.commit,
        },
    ]
