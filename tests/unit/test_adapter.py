"""What is told of a LoRA adapter before vLLM is imported, and what is made of what its workers say."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import structlog
from safetensors.numpy import save_file

from job.engine import choose_backend
from job.engine.adapter import RANKS, WORKER, Adapter, AdapterWorker, _left_out
from job.engine.vllm import VllmBackend
from job.errors import SettingsError
from job.local_files import ADAPTER_WEIGHTS as WEIGHTS
from job.local_files import LocalFiles
from job.plan import make_plan
from job.records import Source
from job.settings import Settings
from tests.support import ROOT, write_jsonl
from tests.unit.builders import COMMIT, FakeHub, settings

LAYER = "model.layers.0.self_attn.q_proj"
A, B = f"base_model.model.{LAYER}.lora_A.weight", f"base_model.model.{LAYER}.lora_B.weight"
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none", "use_dora": False}
MERGE = "merge it into the model with PEFT's merge_and_unload, and give the merged model as MODEL_ID without LORA_ID"
Shapes = Mapping[str, Sequence[int]]
FITTING: Shapes = {A: (4, 6), B: (10, 4)}


def write_weights(file: Path, shapes: Shapes, dtype: str = "float32") -> None:
    save_file({name: np.ones(shape, dtype) for name, shape in shapes.items()}, file)


def adapter_in(folder: Path, shapes: Shapes = FITTING, /, **config: object) -> Adapter:
    """An adapter of one layer; config: what differs in its adapter_config.json."""
    folder = folder / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    write_weights(folder / WEIGHTS, shapes)
    return Adapter(files_of(folder))


def model_in(folder: Path, shapes: Shapes, dtype: str = "float32") -> Path:
    folder = folder / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    write_weights(folder / "model.safetensors", shapes, dtype)
    return folder


def files_of(folder: Path) -> LocalFiles:
    kind = "adapter" if (folder / "adapter_config.json").exists() else "model"
    return LocalFiles(kind, Source(str(folder), "sha256:0", local=True), any_format=False)  # type: ignore[arg-type]


def refusal(adapter: Adapter, **variables: object) -> str:
    with pytest.raises(SettingsError) as caught:
        adapter.check(settings(**variables))
    return str(caught.value)


@pytest.mark.parametrize(
    ("rank", "pattern", "chosen"),
    [
        (1, {}, 1),
        (2, {}, 8),
        (8, {}, 8),
        (12, {}, 16),
        (200, {}, 256),
        (512, {}, 512),
        (4, {"v_proj": 33}, 64),
        (16, {"v_proj": 2}, 16),
        (16, None, 16),
    ],
)
def test_vllm_is_started_with_the_smallest_rank_that_holds_the_adapter(
    tmp_path: Path, rank: int, pattern: object, chosen: int
) -> None:
    adapter = adapter_in(tmp_path, r=rank, rank_pattern=pattern)
    adapter.check(settings())
    assert adapter.engine_args() == {
        "enable_lora": True,
        "max_loras": 1,
        "max_lora_rank": chosen,
        "worker_extension_cls": "job.engine.adapter.AdapterWorker",
    }
    assert chosen in RANKS


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"peft_type": "IA3"}, "an adapter that is no LoRA (peft_type='IA3')"),
        ({"use_dora": True}, "DoRA (use_dora=True)"),
        ({"use_qalora": True}, "QALoRA (use_qalora=True)"),
        ({"use_bdlora": {"target_modules_bd_a": []}}, "block-diagonal LoRA (use_bdlora={'target_modules_bd_a': []})"),
        ({"bias": "lora_only"}, "trained biases (bias='lora_only')"),
        ({"lora_bias": True}, "biases of its own (lora_bias=True)"),
        ({"modules_to_save": ["lm_head"]}, "whole modules beside the LoRA (modules_to_save=['lm_head'])"),
        ({"alora_invocation_tokens": [5]}, "activation by tokens (alora_invocation_tokens=[5])"),
        ({"layer_replication": [[0, 4]]}, "replicated layers (layer_replication=[[0, 4]])"),
        (
            {"init_lora_weights": "pissa_niter_16"},
            "an initialisation that changes the model's own weights (init_lora_weights='pissa_niter_16')",
        ),
        ({"use_dora": True, "bias": "all"}, "DoRA (use_dora=True), trained biases (bias='all')"),
    ],
)
def test_what_vllm_cannot_do_is_refused_with_the_remedy(tmp_path: Path, config: dict[str, object], what: str) -> None:
    said = refusal(adapter_in(tmp_path, **config))
    assert said == f"LORA_ID='{tmp_path / 'adapter'}': vLLM does not support {what}: {MERGE}"


@pytest.mark.parametrize(
    "config",
    [
        {"modules_to_save": None},
        {"modules_to_save": []},
        {"init_lora_weights": True},
        {"init_lora_weights": "Gaussian"},
        {"use_rslora": True},
        {"layers_to_transform": None, "megatron_core": "megatron.core", "revision": None},
    ],
)
def test_what_peft_writes_beside_that_is_accepted(tmp_path: Path, config: dict[str, object]) -> None:
    adapter_in(tmp_path, **config).check(settings())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"r": 0}, "its adapter_config.json is wrong: r: Input should be greater than or equal to 1"),
        ({"r": "16"}, "its adapter_config.json is wrong: r: Input should be a valid integer"),
        ({"r": True}, "its adapter_config.json is wrong: r: Input should be a valid integer"),
        ({"r": 1024}, f"its rank is 1024, and vLLM takes 512 at most: {MERGE}"),
        ({"rank_pattern": {"q_proj": 513}}, f"its rank is 513, and vLLM takes 512 at most: {MERGE}"),
        ({"rank_pattern": {"q_proj": 0}}, "its adapter_config.json is wrong: rank_pattern: q_proj: Input should be greater"),
        ({"lora_alpha": None}, "its adapter_config.json is wrong: lora_alpha: Input should be a valid number"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(tmp_path: Path, config: dict[str, object], said: str) -> None:
    assert f"LORA_ID='{tmp_path / 'adapter'}': {said}" in refusal(adapter_in(tmp_path, **config))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "its adapter_config.json is no JSON: Expecting value: line 1 column 1 (char 0). Give the folder that PEFT's"),
        ('{"r": 4,', "its adapter_config.json is no JSON: Expecting property name"),
        ("\xff", "its adapter_config.json is no JSON: 'utf-8' codec"),
        ("[]", "its adapter_config.json is wrong: Input should be a valid dictionary"),
        ('{"r": 4}', "its adapter_config.json is wrong: lora_alpha: Field required; target_modules: Field required"),
        ('{"peft_type": "PROMPT_TUNING"}', "vLLM does not support an adapter that is no LoRA (peft_type='PROMPT_TUNING')"),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, content: str, said: str) -> None:
    adapter = adapter_in(tmp_path)
    (tmp_path / "adapter" / "adapter_config.json").write_bytes(content.encode("latin-1"))
    assert said in refusal(adapter)


def test_a_folder_without_configuration_is_refused_as_any_other(tmp_path: Path) -> None:
    adapter = adapter_in(tmp_path)
    (tmp_path / "adapter" / "adapter_config.json").unlink()
    assert refusal(adapter) == f"LORA_ID='{tmp_path / 'adapter'}': the folder has no adapter_config.json"


def test_a_rank_that_engine_args_do_not_allow_is_their_fault(tmp_path: Path) -> None:
    adapter = adapter_in(tmp_path, r=12)
    said = refusal(adapter, ENGINE_ARGS='{"max_lora_rank": 8}')
    assert said == (
        f"ENGINE_ARGS=\"{{'max_lora_rank': 8}}\": max_lora_rank=8 is too little for {tmp_path / 'adapter'}, whose rank is 12: "
        "raise it or leave it out"
    )
    adapter.check(settings(ENGINE_ARGS='{"max_lora_rank": 64}'))


@pytest.mark.parametrize(
    ("trained_on", "model_id", "warned"),
    [
        ("other/model-8B", "org/model-7B", True),
        ("mirror/Model-7B", "org/model-7B", False),
        ("/home/someone/model-7B/", "org/model-7B", False),
        (None, "org/model-7B", False),
        ("", "org/model-7B", False),
    ],
)
def test_an_adapter_that_names_another_model_is_warned_of(
    tmp_path: Path, trained_on: str | None, model_id: str, warned: bool
) -> None:
    adapter = adapter_in(tmp_path, base_model_name_or_path=trained_on)
    with structlog.testing.capture_logs() as events:
        adapter.check(settings(MODEL_ID=model_id))
    folder = str(tmp_path / "adapter")
    event = {"event": "adapter_of_another_model", "log_level": "warning", "lora_id": folder}
    assert events == ([{**event, "trained_on": trained_on, "model_id": model_id}] if warned else [])


@pytest.mark.parametrize("name", ["model.safetensors", "adapter_model.bin", "adapter_model.pt"])
def test_weights_that_are_not_there_or_pickle_are_refused_at_once(tmp_path: Path, name: str) -> None:
    """vLLM itself falls back to adapter_model.bin and .pt. A load_format is about the model and changes nothing."""
    adapter = adapter_in(tmp_path)
    (tmp_path / "adapter" / WEIGHTS).rename(tmp_path / "adapter" / name)
    with pytest.raises(
        SettingsError, match=r"has no adapter_model\.safetensors\..*save the adapter again with PEFT's"
    ) as caught:
        adapter.check(settings(ENGINE_ARGS='{"load_format": "hf"}'))
    assert caught.value.problems[0].variable == "LORA_ID"


def test_weights_that_are_cut_off_are_damaged(tmp_path: Path) -> None:
    adapter = adapter_in(tmp_path)
    file = tmp_path / "adapter" / WEIGHTS
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(SettingsError, match=r"LORA_ID='.*': its adapter_model\.safetensors is damaged: .* Fetch it again"):
        adapter.fetch()


def test_weights_without_any_lora_are_refused(tmp_path: Path) -> None:
    adapter = adapter_in(tmp_path, {"model.embed_tokens.weight": (4, 6)})
    with pytest.raises(SettingsError, match=r"holds no LoRA weights \(\*\.lora_A\.weight\)"):
        adapter.fetch()


@pytest.mark.parametrize(
    ("adapter", "model", "said"),
    [
        ({A: (4, 5), B: (10, 4)}, (10, 6), "it is for a weight of 10 x 5, the model's is 10 x 6"),
        ({A: (4, 6), B: (9, 4)}, (10, 6), "it is for a weight of 9 x 6, the model's is 10 x 6"),
        ({A: (5, 6), B: (10, 5)}, (10, 6), "lora_A has rank 5 and lora_B 5, where adapter_config.json says [4]"),
        ({A: (4, 6), B: (10, 5)}, (10, 6), "lora_A has rank 4 and lora_B 5, where adapter_config.json says [4]"),
        ({A: (4, 6)}, (10, 6), "lora_A is there without its lora_B"),
        ({A: (4, 6, 1), B: (10, 4)}, (10, 6), "its weights are no matrices: [4, 6, 1], [10, 4]"),
    ],
)
def test_weights_of_another_shape_than_the_models_are_refused(
    tmp_path: Path, adapter: Shapes, model: Sequence[int], said: str
) -> None:
    files = adapter_in(tmp_path, adapter)
    with pytest.raises(SettingsError) as caught:
        files.check_shapes(model_in(tmp_path, {f"{LAYER}.weight": model}))
    assert str(caught.value) == (
        f"LORA_ID='{tmp_path / 'adapter'}': it does not fit the model: {LAYER}: {said}. "
        "Give the model that it was trained on as MODEL_ID"
    )


def test_only_the_first_of_many_misfits_are_shown(tmp_path: Path) -> None:
    names = [A.replace("layers.0", f"layers.{layer}") for layer in range(9)]
    adapter = adapter_in(tmp_path, dict.fromkeys(names, (4, 6)))
    model = model_in(tmp_path, {LAYER.replace("layers.0", f"layers.{layer}") + ".weight": (10, 6) for layer in range(9)})
    with pytest.raises(SettingsError, match=r"layers\.2\.self_attn\.q_proj: lora_A is there without its lora_B and 6 more\."):
        adapter.check_shapes(model)


@pytest.mark.parametrize(
    ("weight", "shape", "dtype"),
    [
        (f"{LAYER}.weight", (10, 6), "float16"),
        (f"{LAYER}.weight", (6, 10), "float32"),  # stored transposed, as GPT-2 does
        (f"{LAYER}.weight", (30, 1), "uint8"),  # packed by a quantisation
        (f"{LAYER}.qweight", (3, 3), "int32"),
        ("another.name.weight", (3, 3), "float32"),
    ],
)
def test_weights_that_fit_or_cannot_be_compared_are_left_to_vllm(
    tmp_path: Path, weight: str, shape: Sequence[int], dtype: str
) -> None:
    adapter_in(tmp_path).check_shapes(model_in(tmp_path, {weight: shape}, dtype))


def test_ranks_of_single_layers_are_as_good_as_the_first(tmp_path: Path) -> None:
    adapter = adapter_in(tmp_path, {A: (2, 6), B: (10, 2)}, rank_pattern={"q_proj": 2})
    adapter.check_shapes(model_in(tmp_path, {f"{LAYER}.weight": (10, 6)}))


def test_a_damaged_model_is_left_to_vllm(tmp_path: Path) -> None:
    model = model_in(tmp_path, {})
    (model / "model.safetensors").write_bytes(b"no weights")
    adapter_in(tmp_path).check_shapes(model)


def test_the_backend_compares_local_weights_before_prompts_are_made(tmp_path: Path) -> None:
    adapter_in(tmp_path, {A: (4, 5), B: (10, 4)})
    model = model_in(tmp_path, {f"{LAYER}.weight": (10, 6)})
    backend = VllmBackend(settings(), files_of(model), files_of(tmp_path / "adapter"))
    with pytest.raises(SettingsError, match="it is for a weight of 10 x 5"):
        backend.check()


def test_the_backend_reads_no_weights_that_are_still_on_the_hub(tmp_path: Path) -> None:
    adapter_in(tmp_path)
    (tmp_path / "adapter" / WEIGHTS).write_bytes(b"a download that is not complete")
    on_hub = LocalFiles("adapter", Source(str(tmp_path / "adapter"), "a" * 40, local=False), any_format=False)
    VllmBackend(settings(), files_of(model_in(tmp_path, {})), on_hub).check()


@pytest.mark.parametrize(("dtype", "on_cpu"), [("bfloat16", False), ("float16", False), ("float32", True)])
def test_number_formats_that_the_kernels_know_are_accepted(tmp_path: Path, dtype: str, on_cpu: bool) -> None:
    adapter_in(tmp_path).check_dtype(dtype, on_cpu=on_cpu)


def test_float32_on_a_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="DTYPE='float32': LoRA adapters run in float16 or bfloat16 on a GPU"):
        adapter_in(tmp_path).check_dtype("float32", on_cpu=False)


def worker(adapter_modules: Sequence[str], model_modules: Sequence[str]) -> AdapterWorker:
    loaded = SimpleNamespace(loras=dict.fromkeys(adapter_modules))
    manager = SimpleNamespace(modules=dict.fromkeys(model_modules), list_adapters=lambda: {1: loaded})
    here = AdapterWorker()
    here.model_runner = SimpleNamespace(lora_manager=SimpleNamespace(_adapter_manager=manager))
    return here


def test_a_worker_names_what_its_part_of_the_model_has_no_place_for() -> None:
    model = ["layers.0.qkv_proj", "layers.0.mlp.experts"]
    assert worker(["layers.0.qkv_proj"], model).adapter_modules_left_out() == []
    assert worker(["layers.0.mlp.experts", "layers.0.mlp.experts.base_layer"], model).adapter_modules_left_out() == []
    assert worker(["layers.9.up", "layers.0.qkv_proj", "h.0.qkv_proj"], model).adapter_modules_left_out() == [
        "h.0.qkv_proj",
        "layers.9.up",
    ]
    assert f"{AdapterWorker.__module__}.{AdapterWorker.__qualname__}" == WORKER


def left_out(*workers: list[str], extension: str = WORKER, target_modules: list[str] | None = None) -> Sequence[str]:
    """What is said of an engine whose workers say this."""
    config = SimpleNamespace(
        parallel_config=SimpleNamespace(worker_extension_cls=extension),
        lora_config=SimpleNamespace(target_modules=target_modules),
    )
    said = {"adapter_modules_left_out": list(workers)}
    engine: Any = SimpleNamespace(vllm_config=config, collective_rpc=said.__getitem__)
    return _left_out(engine)


def test_a_module_that_any_worker_has_is_not_left_out() -> None:
    assert left_out(["a", "b"]) == ["a", "b"]
    assert left_out(["b", "a"], ["b", "c"]) == ["b"]
    assert left_out(["a"], []) == []


def test_what_engine_args_leave_out_is_left_out_on_purpose() -> None:
    assert left_out(["a"], target_modules=["q_proj"]) == ()
    assert left_out(["a"], extension="their.own.Worker") == ()


def test_the_readme_says_what_results_with_an_adapter_are_called(tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## A LoRA adapter\n")[2].partition("\n## ")[0]
    example = dict(line.split("=", 1) for line in section.partition("```dotenv\n")[2].partition("```")[0].splitlines())
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"instruction": "Say hello."}])
    ours = {"DATASET_ID": str(rows), "OUTPUT_DIR": str(tmp_path / "results"), "HUB_NAMESPACE": "me"}
    plan = make_plan(Settings.from_env(example | ours), FakeHub(), choose_backend)
    assert plan.folder.parent == tmp_path / "results" / plan.name
    assert f"`OUTPUT_DIR/{plan.name}`" in section
    assert f"`{str(plan.repo_id).replace('me/', '<namespace>/', 1)}`" in section
    assert plan.identity.facts["adapter"] == {"id": example["LORA_ID"], "commit": COMMIT}
    assert f"ranks above {RANKS[-1]}" in section
