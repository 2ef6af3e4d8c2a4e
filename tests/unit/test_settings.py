import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from pydantic import Field, SecretStr, ValidationError

from job.errors import SettingsError
from job.settings import HubSettings, Settings, _problems, audiences, near_misses, variables
from tests.unit.builders import REQUIRED, problems, problems_of, settings

NAMES = sorted(name for _, name in variables())
EXAMPLES = [
    ("model.model_revision", "v2", "v2"),
    ("model.trust_remote_code", "true", True),
    ("data.dataset_config", "small", "small"),
    ("data.dataset_revision", "abc", "abc"),
    ("data.dataset_split", "train.v1", "train.v1"),
    ("data.instruction_column", "question", "question"),
    ("data.drop_columns", "id, prompt  seed", ("id", "prompt", "seed")),
    ("data.max_rows", "10", 10),
    ("prompt.prompt_template", "chat", "chat"),
    ("sampling.temperature", "0", 0.0),
    ("sampling.top_p", "1", 1.0),
    ("sampling.min_p", "0", 0.0),
    ("sampling.top_k", "50", 50),
    ("sampling.repetition_penalty", "1.1", 1.1),
    ("sampling.max_tokens", "16", 16),
    ("sampling.stop", "###", ("###",)),
    (
        "sampling.repetition_detection",
        '{"max_pattern_size": 20, "min_count": 10}',
        {"max_pattern_size": 20, "min_pattern_size": 1, "min_count": 10},
    ),
    ("sampling.seed", str(2**63 - 1), 2**63 - 1),
    ("sampling.num_samples", "1000", 1000),
    ("engine.engine", "echo", "echo"),
    ("engine.max_model_len", "2", 2),
    ("engine.dtype", "bfloat16", "bfloat16"),
    ("engine.quantization", "fp8", "fp8"),
    ("engine.kv_cache_dtype", "fp8_e5m2", "fp8_e5m2"),
    ("engine.tensor_parallel_size", "4", 4),
    ("engine.gpu_memory_utilization", "0.5", 0.5),
    ("engine.kv_cache_memory_bytes", "1024", 1024),
    ("engine.enforce_eager", "1", True),
    ("engine.engine_args", '{"max_num_seqs": 64}', {"max_num_seqs": 64}),
    ("output.output_dir", "some/where", Path("some/where")),
    ("output.max_failed_rows", "3", 3),
    ("run.shutdown_grace_seconds", "0", 0.0),
    ("run.log_format", "json", "json"),
    ("run.log_level", "DEBUG", "DEBUG"),
]


@pytest.mark.parametrize(("field", "text", "value"), EXAMPLES)
def test_a_variable_is_read_by_its_audience(field: str, text: str, value: object) -> None:
    audience, name = field.split(".")
    assert getattr(getattr(settings(**{name.upper(): text}), audience), name) == value


def test_the_examples_cover_every_audience() -> None:
    assert {field.split(".")[0] for field, _, _ in EXAMPLES} | {"hub", "shards"} == set(audiences())


def test_the_defaults_are_those_of_the_reference_run() -> None:
    found = settings()
    assert found.sampling.model_dump() == {
        "temperature": 0.8,
        "top_p": 0.95,
        "min_p": 0.05,
        "top_k": None,
        "repetition_penalty": 1.0,
        "max_tokens": 4096,
        "repetition_detection": {},
        "stop": (),
        "seed": 0,
        "num_samples": 1,
    }
    assert found.data.dataset_split == "test"
    assert found.data.instruction_column == "instruction"
    assert found.prompt.prompt_template == "alpaca"
    assert found.engine.max_model_len == 4096
    assert found.output.max_failed_rows == 0


@pytest.mark.parametrize("name", [name for name in NAMES if name not in REQUIRED])
def test_an_empty_variable_counts_as_unset(name: str) -> None:
    assert settings(**{name: ""}) == settings()


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_an_empty_required_variable_is_missing(name: str) -> None:
    assert problems(**{name: ""})[name].startswith(f"{name}: is required. The ")


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(
            {
                "MODEL_ID": "org/model",
                "MAX_ROWS": "0",
                "SYSTEM_PROMPT": "Be brief.",
                "TEMPERATURE": "hot",
                "TOP_P": "2",
                "DTYPE": "int3",
                "ENGINE_ARGS": "{",
                "MAX_FAILED_ROWS": "-1",
                "LOG_LEVEL": "LOUD",
            }
        )
    assert {problem.variable for problem in caught.value.problems} == {
        "DATASET_ID",
        "MAX_ROWS",
        "SYSTEM_PROMPT",
        "TEMPERATURE",
        "TOP_P",
        "DTYPE",
        "ENGINE_ARGS",
        "MAX_FAILED_ROWS",
        "LOG_LEVEL",
    }
    assert caught.value.exit_code == 78
    assert "TEMPERATURE='hot': should be a valid number" in str(caught.value)
    assert "TOP_P='2': should be less than or equal to 1" in str(caught.value)


def test_a_problem_says_what_the_variable_is_for() -> None:
    assert problems(MAX_TOKENS="0")["MAX_TOKENS"] == (
        "MAX_TOKENS='0': should be greater than or equal to 1. Longest answer, in tokens."
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TEMPERATURE", "2.01"),
        ("TEMPERATURE", "-0.1"),
        ("TOP_P", "0"),
        ("TOP_P", "1.01"),
        ("MIN_P", "1.5"),
        ("TOP_K", "0"),
        ("REPETITION_PENALTY", "0"),
        ("MAX_TOKENS", "0"),
        ("MAX_TOKENS", "1.5"),
        ("SEED", "-1"),
        ("SEED", str(2**63)),
        ("NUM_SAMPLES", "0"),
        ("NUM_SAMPLES", "1001"),
        ("GPU_PRICE_PER_HOUR", "0"),
        ("GPU_PRICE_PER_HOUR", "free"),
        ("MAX_ROWS", "0"),
        ("MAX_MODEL_LEN", "1"),
        ("TENSOR_PARALLEL_SIZE", "0"),
        ("GPU_MEMORY_UTILIZATION", "1.1"),
        ("TRUST_REMOTE_CODE", "perhaps"),
        ("ENGINE", "gpt"),
        ("KV_CACHE_DTYPE", "fp9"),
        ("DATASET_SPLIT", "test[:10]"),
        ("HF_ENDPOINT", "hub.example.com"),
        ("HF_ENDPOINT", "localhost:8080"),
        ("SHUTDOWN_GRACE_SECONDS", "-1"),
        ("METRICS_PORT", "-1"),
        ("METRICS_PORT", "65536"),
        ("METRICS_PORT", "http"),
        ("METRICS_PORT", "80.5"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "info"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_its_name(name: str, value: str) -> None:
    found = problems(**{name: value})
    assert list(found) == [name]
    assert found[name].startswith(f"{name}='{value}': ")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "NaN", "Infinity", "1e999"])
@pytest.mark.parametrize("name", ["TEMPERATURE", "TOP_P", "GPU_MEMORY_UTILIZATION", "SHUTDOWN_GRACE_SECONDS"])
def test_a_number_that_is_not_finite_is_refused(name: str, value: str) -> None:
    assert list(problems(**{name: value})) == [name]


@pytest.mark.parametrize("value", ['{"a": NaN}', '{"a": [Infinity]}', '{"a": -1e999}', '{"a": "\\ud800"}'])
def test_engine_args_that_no_json_file_could_hold_are_refused(value: str) -> None:
    assert list(problems(ENGINE_ARGS=value)) == ["ENGINE_ARGS"]


@pytest.mark.parametrize("value", ["{", "[]", "5", '"text"', "max_num_seqs=3", '{"a":' * 100_000])
def test_engine_args_that_are_no_json_object_are_refused(value: str) -> None:
    assert "such as `{\"max_num_seqs\": 64}`" in problems(ENGINE_ARGS=value)["ENGINE_ARGS"]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        ("END", ("END",)),
        ("\n\n", ("\n\n",)),
        ("a, b", ("a, b",)),
        ('["###", "\\n\\n"]', ("###", "\n\n")),
        ("[]", ()),
    ],
)
def test_stop_is_one_text_or_a_json_list(text: str, stops: tuple[str, ...]) -> None:
    assert settings(STOP=text).sampling.stop == stops


@pytest.mark.parametrize("text", ["[", "[1]", '["a", ["b"]]', '["\\ud800"]', "[" * 100_000])
def test_stop_that_is_no_list_of_texts_is_refused(text: str) -> None:
    assert list(problems(STOP=text)) == ["STOP"]


def test_stop_with_an_empty_text_is_refused_with_the_reason() -> None:
    assert "holds an empty string, which would end every answer at once" in problems(STOP='["a", ""]')["STOP"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{}", "needs max_pattern_size, a whole number of at least 1. End an answer that loops: "),
        ('{"max_pattern_size": 5}', "needs min_count, a whole number of at least 2. "),
        ('{"max_pattern_size": 5, "min_count": 1}', "needs min_count, a whole number of at least 2. "),
        ('{"max_pattern_size": 0, "min_count": 2}', "needs max_pattern_size, a whole number of at least 1. "),
        ('{"max_pattern_size": true, "min_count": 2}', "needs max_pattern_size, a whole number of at least 1. "),
        ('{"max_pattern_size": 5.0, "min_count": 2}', "needs max_pattern_size, a whole number of at least 1. "),
        ('{"max_pattern_size": 5, "min_pattern_size": "2", "min_count": 2}', "needs min_pattern_size, a whole number of "),
        ('{"max_pattern_size": 5, "min_pattern_size": 6, "min_count": 2}', "has a min_pattern_size above its max_pattern_size"),
        ('{"size": 5, "count": 2}', "knows no count, size, but max_pattern_size, min_pattern_size, min_count. "),
        ("true", "is no JSON object. "),
        ("[5, 2]", "is no JSON object. "),
        ("20", "is no JSON object. "),
        ("{", "Expecting property name"),
        ('{"max_pattern_size": NaN, "min_count": 2}', "Out of range float values are not JSON compliant"),
        (
            '{"max_pattern_size": 50, "min_pattern_size": 10, "min_count": 10}',
            "finds a loop after 100 tokens at the earliest, and MAX_TOKENS=100 ends an answer first: lower min_count or ",
        ),
    ],
)
def test_a_repetition_that_could_not_be_looked_for_is_refused_with_the_reason(text: str, shown: str) -> None:
    found = problems(REPETITION_DETECTION=text, MAX_TOKENS=100)
    assert list(found) == ["REPETITION_DETECTION"]
    assert f"': {shown}" in found["REPETITION_DETECTION"]


@pytest.mark.parametrize(
    ("text", "columns"), [("a", ("a",)), ("a,b", ("a", "b")), (" a ,\tb\n c,", ("a", "b", "c")), (",", ()), ("  ", ())]
)
def test_drop_columns_are_separated_by_commas_or_spaces(text: str, columns: tuple[str, ...]) -> None:
    assert settings(DROP_COLUMNS=text).data.drop_columns == columns


def test_a_slice_of_a_split_is_refused_with_the_variable_to_use() -> None:
    assert "use MAX_ROWS" in problems(DATASET_SPLIT="test[:10]")["DATASET_SPLIT"]


def test_a_system_prompt_without_the_chat_template_is_refused() -> None:
    found = problems(SYSTEM_PROMPT="Be brief.")
    assert found == {
        "SYSTEM_PROMPT": "SYSTEM_PROMPT='Be brief.': is used with PROMPT_TEMPLATE=chat only: set that, or unset this"
    }
    assert settings(SYSTEM_PROMPT="Be brief.", PROMPT_TEMPLATE="chat").prompt.system_prompt == "Be brief."


@pytest.mark.parametrize(
    ("argument", "variable"),
    [
        ("model", "MODEL_ID"),
        ("tokenizer", "MODEL_ID"),
        ("revision", "MODEL_REVISION"),
        ("trust_remote_code", "TRUST_REMOTE_CODE"),
        ("seed", "SEED"),
        ("max_model_len", "MAX_MODEL_LEN"),
        ("dtype", "DTYPE"),
        ("quantization", "QUANTIZATION"),
        ("kv_cache_dtype", "KV_CACHE_DTYPE"),
        ("tensor_parallel_size", "TENSOR_PARALLEL_SIZE"),
        ("gpu_memory_utilization", "GPU_MEMORY_UTILIZATION"),
        ("kv_cache_memory_bytes", "KV_CACHE_MEMORY_BYTES"),
        ("enforce_eager", "ENFORCE_EAGER"),
    ],
)
def test_engine_args_that_repeat_a_variable_are_refused_with_its_name(argument: str, variable: str) -> None:
    found = problems(ENGINE_ARGS=f'{{"{argument}": 1, "max_num_seqs": 2}}')
    assert list(found) == ["ENGINE_ARGS"]
    assert f"'{{\"{argument}\": 1}}': {argument} is set by {variable}: use that variable" in found["ENGINE_ARGS"]


@pytest.mark.parametrize("name", ["VLLM_ALLOW_INSECURE_SERIALIZATION", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_a_switch_that_lets_pickle_run_code_is_refused_where_it_is_on(name: str) -> None:
    for value in ("1", "true", "yes"):
        assert problems(**{name: value})[name].startswith(f"{name}='{value}': lets whatever is read as pickle run code")
    for value in ("", "0", "false"):
        assert settings(**{name: value}) == settings()


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "a/b", "../up", "/abs", "a\\b", "a:b", "a*", "a\nb", "a\x00b"])
def test_a_configuration_whose_folder_would_lie_elsewhere_is_refused(name: str) -> None:
    assert "is not the name of a configuration" in problems(DATASET_CONFIG=name)["DATASET_CONFIG"]


@pytest.mark.parametrize("name", ["default", "en-US", "v1.2", "all languages", "ä", "data"])
def test_other_configurations_are_taken(name: str) -> None:
    assert settings(DATASET_CONFIG=name).data.dataset_config == name


@pytest.mark.parametrize("name", ["hf_token", "hf-token"])
def test_a_secret_is_in_no_problem(name: str) -> None:
    found = problems(HF_TOKEN="my-secret", ENGINE_ARGS=f'{{"{name}": "my-secret"}}', TEMPERATURE="hot")
    assert found["ENGINE_ARGS"].endswith("hf_token is set by HF_TOKEN: use that variable")
    assert "my-secret" not in str(found)


def test_a_secret_that_is_wrong_itself_is_not_in_its_problem() -> None:
    class LongToken(HubSettings):
        hf_token: SecretStr | None = Field(None, min_length=100, description="A token.")

    environ = {"HF_TOKEN": "my-secret"}
    with pytest.raises(ValidationError) as caught:
        LongToken.from_env(environ)
    (problem,) = _problems(LongToken, environ, caught.value)
    assert (problem.variable, problem.value) == ("HF_TOKEN", None)
    assert "my-secret" not in str(problem)


def test_a_secret_is_not_shown() -> None:
    found = settings(HF_TOKEN="my-secret", SEED=5)
    assert found.hub.hf_token is not None
    assert found.hub.hf_token.get_secret_value() == "my-secret"
    assert "my-secret" not in repr(found) + str(found.shown())
    assert found.shown() == {"model_id": "org/model", "dataset_id": "org/data", "seed": 5, "hf_token": "**********"}


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        settings().sampling.seed = 1  # type: ignore[misc]


def test_only_the_given_mapping_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPERATURE", "1.5")
    assert settings().sampling.temperature == 0.8


def test_a_name_in_lower_case_is_another_variable() -> None:
    assert Settings.from_env(REQUIRED | {"seed": "5"}).sampling.seed == 0


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TEMPRATURE", "TEMPERATURE"),
        ("MODEL", "MODEL_ID"),
        ("DATASET", "DATASET_ID"),
        ("MAX_TOKEN", "MAX_TOKENS"),
        ("temperature", "TEMPERATURE"),
        ("HF_TOKENS", "HF_TOKEN"),
    ],
)
def test_a_near_miss_is_found_with_the_name_that_is_meant(name: str, meant: str) -> None:
    assert near_misses({name: "1", "PATH": "/bin"}) == {name: meant}


def test_no_near_miss_is_found_in_names_that_are_known_or_far_off() -> None:
    others = ("PATH", "HOME", "SHELL", "LANG", "TERM", "USER", "HOSTNAME", "PWD", "KUBERNETES_SERVICE_HOST", "MODEL_IDS")
    assert near_misses(dict.fromkeys([*NAMES, *others, "HF_HOME", "HF_ENDPOINT", "CUDA_VISIBLE_DEVICES"], "1")) == {}


VALUES = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=20),
    st.integers().map(str),
    st.floats().map(str),
    st.text('[]{}":,0aNe\\', max_size=12),
)


@effort(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8))
def test_arbitrary_values_are_settings_or_a_settings_error(environ: dict[str, str]) -> None:
    found = problems_of(environ)
    assert {problem.variable for problem in found} <= set(environ) | set(REQUIRED)
    assert all(problem.message for problem in found)
    assert found or (environ["MODEL_ID"] and environ["DATASET_ID"])


def test_a_token_from_a_file_loses_its_line_end_and_a_broken_one_is_refused_without_being_shown() -> None:
    environ = {"MODEL_ID": "m", "DATASET_ID": "d"}
    token = Settings.from_env(environ | {"HF_TOKEN": "hf_secret\n"}).hub.hf_token
    assert token is not None
    assert token.get_secret_value() == "hf_secret"
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environ | {"HF_TOKEN": "hf_se cret"})
    assert "HF_TOKEN: holds a space" in str(caught.value)
    assert "cret" not in str(caught.value).replace("secret", "")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MODEL_ID": "m\udcff"}, "MODEL_ID: is not UTF-8"),
        ({"OUTPUT_DIR": "~nosuchuser/results"}, "OUTPUT_DIR='~nosuchuser/results': "),
        ({"NUM_SAMPLES": "2", "TEMPERATURE": "0"}, "NUM_SAMPLES='2': gives the same answer each time"),
    ],
)
def test_values_that_could_only_fail_later_are_refused(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"MODEL_ID": "m", "DATASET_ID": "d"} | variables)
    assert message in str(caught.value)


@pytest.mark.parametrize("levels", [101, 300, 2000, 100_000])
def test_engine_args_that_are_nested_too_deeply_are_a_problem(levels: int) -> None:
    """pydantic reads what it cannot write, and the log is to show them."""
    text = '{"a": ' * levels + "1" + "}" * levels
    problem = problems(ENGINE="echo", ENGINE_ARGS=text)["ENGINE_ARGS"]
    assert "is nested too deeply" in problem


def test_engine_args_that_are_nested_as_deeply_as_allowed_are_shown() -> None:
    text = '{"a": ' * 99 + "1" + "}" * 99
    assert json.dumps(settings(ENGINE="vllm", ENGINE_ARGS=text).shown()["engine_args"]) == text
