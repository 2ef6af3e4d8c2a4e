"""Real vLLM with a LoRA adapter: the answers are those of the model with the adapter merged into its weights."""

import json
import queue
from concurrent.futures import Future
from dataclasses import MISSING, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file, save_file

from job.engine import adapter as engine_adapter
from job.engine.postmortem import Watch
from job.engine.vllm_engine import VllmEngine
from job.errors import EngineError
from job.local_files import LocalFiles
from job.records import Source
from tests.e2e.conftest import ENGINE
from tests.e2e.fakes import vllm_config
from tests.e2e.test_greedy import by_transformers
from tests.support import Outcome, finished_rows, read_table, run_job, write_jsonl

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(600)]

# With this adapter the model answers each of them differently than without it. The token chosen leads the second by 0.036 or
# more in the logits at every step, while adding B @ (A @ x) instead of merging B @ A moves a logit by 0.0002 or less: so the
# greedy text does not hang on the order of a float32 sum.
QUESTIONS = [
    "What is the capital of France?",
    "What is the capital of Japan?",
    "Name three primary colours.",
    "Write one sentence about the sea.",
    "Who wrote Romeo and Juliet?",
]
SCALE, RANK, ALPHA, MAX_TOKENS = 0.06, 12, 24, 24
LAYERS, WIDTH, OUTPUTS = 30, 576, {"q_proj": 576, "v_proj": 192}
CONFIG = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": [*OUTPUTS], "bias": "none"}
Tensors = dict[str, torch.Tensor]


def lora_tensors(prefix: str = "base_model.model.model") -> Tensors:
    """Both matrices for two projections of every layer, under the names that PEFT gives them; the same ones each time."""
    dice = torch.Generator().manual_seed(7)
    tensors = {}
    for layer in range(LAYERS):
        for projection, outputs in OUTPUTS.items():
            module = f"{prefix}.layers.{layer}.self_attn.{projection}"
            tensors[f"{module}.lora_A.weight"] = torch.randn(RANK, WIDTH, generator=dice) * SCALE
            tensors[f"{module}.lora_B.weight"] = torch.randn(outputs, RANK, generator=dice) * SCALE
    return tensors


def write_adapter(folder: Path, tensors: Tensors, **config: object) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def merged(model: Path, tensors: Tensors, folder: Path) -> Path:
    """The model with W + alpha / r * B @ A in place of each W."""
    folder.mkdir()
    for file in model.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).symlink_to(file)
    (file,) = model.glob("*.safetensors")
    weights = {name: weight.float() for name, weight in load_file(file).items()}
    for name, lora_a in tensors.items():
        if name.endswith(".lora_A.weight"):
            lora_b = tensors[name.replace("lora_A", "lora_B")]
            weights[name.removeprefix("base_model.model.").replace(".lora_A", "")] += ALPHA / RANK * lora_b @ lora_a
    save_file(weights, folder / file.name, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def settings(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("lora")
    dataset = write_jsonl(folder / "questions.jsonl", [{"instruction": text} for text in QUESTIONS])
    chat = {"PROMPT_TEMPLATE": "chat", "TEMPERATURE": 0, "MAX_TOKENS": MAX_TOKENS}
    return {"MODEL_ID": model, "DATASET_ID": dataset, "OUTPUT_DIR": folder / "results", **chat, **ENGINE}


@pytest.fixture(scope="module")
def adapter(settings: dict[str, object]) -> Path:
    return write_adapter(
        Path(str(settings["DATASET_ID"])).with_name("pirate-lora"), lora_tensors(), base_model_name_or_path="a/b"
    )


@pytest.fixture(scope="module")
def run(settings: dict[str, object], adapter: Path) -> Outcome:
    outcome = run_job(**settings, LORA_ID=adapter)
    assert outcome.code == 0, outcome.last
    return outcome


@pytest.fixture
def results(run: Outcome) -> Path:
    return Path(run.last["results"])


def test_answers_are_those_of_the_merged_model_and_none_is_the_models_own(model: Path, results: Path, tmp_path: Path) -> None:
    answers: list[Any] = read_table(results)["answers"].to_pylist()
    assert answers == by_transformers(merged(model, lora_tensors(), tmp_path / "merged"), QUESTIONS, MAX_TOKENS)
    own = by_transformers(model, QUESTIONS, MAX_TOKENS)
    assert not [answer for answer, without in zip(answers, own, strict=True) if answer == without]


def test_folder_manifest_and_identity_name_the_adapter(results: Path, adapter: Path) -> None:
    assert results.parent.name == "SmolLM2-135M-Instruct-pirate-lora"
    manifest = json.loads((results / "run.json").read_text())
    identity = json.loads((results / "identity.json").read_text())
    assert manifest["adapter"]["name"] == adapter.name
    assert manifest["adapter"]["commit"] == identity["facts"]["adapter"]["commit"]
    assert manifest["engine"]["max_lora_rank"] == 16


def test_an_adapter_trained_on_another_model_is_warned_of(run: Outcome, settings: dict[str, object]) -> None:
    (warning,) = run.of("adapter_of_another_model")
    assert (warning["level"], warning["trained_on"], warning["model_id"]) == ("warning", "a/b", str(settings["MODEL_ID"]))


def test_the_model_without_the_adapter_has_none_of_its_rows(settings: dict[str, object], results: Path) -> None:
    outcome = run_job(**settings, DRY_RUN="true")
    assert outcome.code == 0
    assert outcome.of("preflight_passed")[0]["rows_pending"] == len(QUESTIONS)
    output = Path(str(settings["OUTPUT_DIR"]))
    assert sorted(folder.name for folder in output.iterdir()) == ["SmolLM2-135M-Instruct", results.parent.name]


def test_an_adapter_that_vllm_cannot_run_ends_in_seconds(settings: dict[str, object], tmp_path: Path) -> None:
    dora = write_adapter(tmp_path / "dora", lora_tensors(), use_dora=True)
    outcome = run_job(**settings, LORA_ID=dora)
    assert outcome.code == 78
    assert f"LORA_ID='{dora}': vLLM does not support DoRA (use_dora=True): merge it into" in outcome.last["message"]
    assert outcome.seconds < 10
    assert not outcome.of("engine_starting")
    assert not [line for line in outcome.events if line["logger"].startswith("vllm")]


def test_an_adapter_whose_names_the_model_does_not_have_answers_no_row(settings: dict[str, object], tmp_path: Path) -> None:
    # vLLM takes it, and the model would answer as it does without an adapter.
    foreign = write_adapter(tmp_path / "foreign", lora_tensors("base_model.model.transformer"))
    output = tmp_path / "results"
    outcome = run_job(**(settings | {"OUTPUT_DIR": output}), LORA_ID=foreign)
    assert outcome.code == 78
    first = "transformer.layers.0.self_attn.q_proj, transformer.layers.0.self_attn.v_proj, "
    assert f"LORA_ID='{foreign}': the model has no place for some of it: {first}" in outcome.last["message"]
    assert outcome.stderr == ""
    assert finished_rows(output) == {}


@pytest.mark.filterwarnings("ignore")  # vLLM's own, when it is imported
def test_what_is_refused_and_the_ranks_are_those_of_this_vllm() -> None:
    from vllm.config.lora import LoRAConfig, MaxLoRARanks
    from vllm.lora.peft_helper import PEFTHelper

    assert get_args(MaxLoRARanks) == engine_adapter.RANKS
    values = {"bias": "all", "init_lora_weights": "pissa", "modules_to_save": ["lm_head"], "use_bdlora": {"a": 1}}
    refused = {name for name in engine_adapter._REFUSED if name != "peft_type"}  # which vLLM does not look at
    for name in refused:
        with pytest.raises(ValueError, match=r"not (yet )?support|only supports"):
            PEFTHelper.from_dict({**CONFIG, name: values.get(name, [1])}).validate_legal(LoRAConfig())
    # Whatever else a later vLLM reads of adapter_config.json is to be looked at: is it refused?
    taken = {"r", "lora_alpha", "target_modules", "use_rslora", "rank_pattern", "alpha_pattern"}
    read = {field.name for field in fields(PEFTHelper) if not field.name.startswith("vllm_")}
    assert read == refused | taken
    assert {field.name for field in fields(PEFTHelper) if field.default is field.default_factory is MISSING} <= set(CONFIG)
    for init in engine_adapter._HARMLESS_INITS:
        PEFTHelper.from_dict({**CONFIG, "init_lora_weights": init}).validate_legal(LoRAConfig())


@pytest.mark.filterwarnings("ignore")  # vLLM's own, when it is imported
def test_a_core_that_dies_while_it_loads_the_adapter_ends_the_run_instead_of_keeping_it_waiting(adapter: Path) -> None:
    answer: Future[bool] = Future()  # the one that vLLM waits for without end
    shut_down: list[bool] = []
    core = SimpleNamespace(
        resources=SimpleNamespace(engine_dead=True),
        outputs_queue=queue.Queue(),
        utility_results={1: answer},
        shutdown=lambda: shut_down.append(True),
    )
    engine: Any = SimpleNamespace(
        engine_core=core, vllm_config=vllm_config(), add_lora=lambda _request: answer.result(timeout=60)
    )
    files = LocalFiles("adapter", Source(str(adapter), "sha256:0", local=True), any_format=False)
    opened = VllmEngine(engine, {}, {}, Watch())
    with pytest.raises(EngineError, match=f"vLLM died while it loaded {adapter}"), opened.closed_on_error():
        opened.load_adapter(engine_adapter.Adapter(files))
    assert shut_down == [True]
