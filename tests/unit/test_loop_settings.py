"""What `make generate-all` makes of its environment."""

import pytest

from job.errors import SettingsError
from job.settings import Settings
from scripts.loop.settings import GPU_MEMORY_UTILIZATION, LoopSettings, metrics_port
from tests.unit.builders import settings as job_settings


def loop_settings(**variables: object) -> LoopSettings:
    return LoopSettings.from_env({"MODEL_IDS": "org/a, org/b@v2"} | {name: str(value) for name, value in variables.items()})


def refusal(**variables: object) -> str:
    with pytest.raises(SettingsError) as caught:
        loop_settings(**variables)
    return str(caught.value)


def test_each_model_has_its_id_its_revision_and_its_name() -> None:
    first, second = loop_settings().models
    assert (first.variables(), first.name) == ({"MODEL_ID": "org/a"}, "a")
    assert (second.variables(), second.name) == ({"MODEL_ID": "org/b", "MODEL_REVISION": "v2"}, "b")
    assert [model.name for model in loop_settings(LORA_ID="me/lora").models] == ["a-lora", "b-lora"]


def test_model_id_and_revision_of_a_single_run_are_not_those_of_the_models() -> None:
    chosen = loop_settings(MODEL_ID="org/x", MODEL_REVISION="v9", SEED=1)
    assert {"MODEL_ID", "MODEL_REVISION"}.isdisjoint(chosen.environ)
    assert chosen.environ["SEED"] == "1"


def test_jobs_log_what_the_loop_reads() -> None:
    assert loop_settings(LOG_FORMAT="console", LOG_LEVEL="ERROR").environ.items() >= {
        ("LOG_FORMAT", "json"),
        ("LOG_LEVEL", "INFO"),
    }
    assert loop_settings(LOG_LEVEL="DEBUG").environ["LOG_LEVEL"] == "DEBUG"


def test_no_more_run_at_once_than_there_are() -> None:
    assert (loop_settings().parallel, loop_settings(PARALLEL=2).parallel, loop_settings(PARALLEL=8).parallel) == (1, 2, 2)


def test_two_models_of_one_name_are_refused_with_both_names_and_the_remedy() -> None:
    text = refusal(MODEL_IDS="org/a other/b you/a@v2")
    assert text.startswith("MODEL_IDS='org/a you/a@v2': both would publish as a-results and share the folder a")
    assert "an OUTPUT_DIR and a HUB_REPO_ID of its own" in text
    assert "both would publish" in refusal(MODEL_IDS="org/a@v1 org/a@v2")


def test_one_repository_for_several_models_is_refused() -> None:
    assert "use HUB_NAMESPACE" in refusal(HUB_REPO_ID="me/results")
    assert loop_settings(MODEL_IDS="org/a", HUB_REPO_ID="me/results").models


def test_all_problems_are_said_at_once() -> None:
    text = refusal(MODEL_IDS="", RUNNER="rocket", PARALLEL="many")
    for part in ("MODEL_IDS: names no model", "RUNNER='rocket': is none of auto, docker", "PARALLEL='many'"):
        assert part in text


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "²"])
def test_a_number_of_models_is_one_or_more(given: str) -> None:
    assert "PARALLEL" in refusal(PARALLEL=given)


def test_a_model_whose_name_is_no_folder_is_refused() -> None:
    assert "is no name for a folder" in refusal(MODEL_IDS="/")


def test_a_home_of_nobody_is_refused() -> None:
    assert "MODEL_IDS" in refusal(MODEL_IDS="~nobody-of-this-name/m")


@pytest.mark.parametrize(("given", "number"), [("0.5", 0.5), ("half", 0.9), ("nan", 0.9), ("inf", 0.9), ("-1", 0.9)])
def test_what_is_no_number_is_left_for_the_job_to_refuse(given: str, number: float) -> None:
    assert loop_settings(GPU_MEMORY_UTILIZATION=given).number("GPU_MEMORY_UTILIZATION", 0.9) == number


def test_the_default_share_of_the_memory_is_the_jobs() -> None:
    assert job_settings().engine.gpu_memory_utilization == GPU_MEMORY_UTILIZATION


def test_variables_of_a_model_make_settings() -> None:
    chosen = loop_settings(DATASET_ID="org/rows")
    settings = Settings.from_env({**chosen.environ, **chosen.models[1].variables()})
    assert (settings.model.model_id, settings.model.model_revision) == ("org/b", "v2")


@pytest.mark.parametrize(("port", "second"), [("9464", {"METRICS_PORT": "9465"}), ("0", {}), ("", {}), ("x", {}), ("-1", {})])
def test_models_that_run_at_once_have_a_port_each(port: str, second: dict[str, str]) -> None:
    assert metrics_port({"METRICS_PORT": port}, 1) == second


def test_ports_that_there_are_not_are_refused_before_anything_runs() -> None:
    assert loop_settings(METRICS_PORT=65535).environ["METRICS_PORT"] == "65535"
    assert loop_settings(METRICS_PORT=65534, PARALLEL=9).parallel == 2
    text = refusal(METRICS_PORT=65535, PARALLEL=2)
    assert text.startswith("METRICS_PORT='65535': with PARALLEL=2, ports up to 65536 are needed")
