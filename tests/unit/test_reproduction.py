"""The command of a card, carried out by bash up to `python`: the environment that it makes is a run of the same identity."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from job import markdown
from job.disk import json_text
from job.identity import Identity, describe
from job.manifest import build
from job.prompts import ALPACA, read_template
from job.records import Source, Tally
from job.reproduction import command, needs, variables
from job.settings import Settings

MODEL, DATA = Source("org/model", "a" * 40, local=False), Source("org/data", "b" * 40, local=False)
REQUIRED = {"MODEL_ID": MODEL.name, "DATASET_ID": DATA.name}
ENGINE = {"name": "vllm", "version": "1.2.3"}
# Settings that each make another identity, all of them in values that a shell or a page could take for something else.
AWKWARD: dict[str, str] = {
    "TRUST_REMOTE_CODE": "true",
    "DATASET_CONFIG": "it's $(touch x) `y`",
    "DATASET_SPLIT": "dev",
    "INSTRUCTION_COLUMN": "the \"question\"\nin two lines | '$HOME'",
    "DROP_COLUMNS": "a, $b `c`",
    "PROMPT_TEMPLATE": "chat",
    "SYSTEM_PROMPT": 'You\'re "kind".\n```\n<!-- answers to default/test: end -->\r\n\tBe\u202e brief! \\n $x ✓\n',
    "TEMPERATURE": "0.1",
    "TOP_P": "0.3333333333333333",
    "MIN_P": "0",
    "TOP_K": "7",
    "REPETITION_PENALTY": "1.05",
    "MAX_TOKENS": "77",
    "REPETITION_DETECTION": '{"max_pattern_size": 9, "min_count": 4}',
    "STOP": '["\\n\\n", "it\'s", "\\"", "```", "|", "<!-- x -->", "é\\u0000"]',
    "SEED": "9223372036854775807",
    "NUM_SAMPLES": "3",
    "MAX_MODEL_LEN": "2048",
    "DTYPE": "float32",
    "QUANTIZATION": "fp8",
    "KV_CACHE_DTYPE": "fp8",
    "REPRODUCIBILITY": "bitwise",
    "TENSOR_PARALLEL_SIZE": "2",
    "ENFORCE_EAGER": "true",
    "ENGINE_ARGS": '{"max_num_seqs": 4, "x": {"y": "it\'s | `z`"}}',
}


def identity_of(environ: Mapping[str, str], engine: Mapping[str, object] = ENGINE) -> Identity:
    settings, chosen = Settings.from_env(environ), environ.get("PROMPT_TEMPLATE", "alpaca")
    template: dict[str, object] = {"template": chosen, "text": ALPACA}
    if chosen == "chat":
        template = {"template": "chat", "system_prompt": settings.prompt.system_prompt}
    elif chosen != "alpaca":
        template = {"template": "jinja", "text": read_template(Path(chosen))}
    return describe(settings, MODEL, DATA, template, engine)


def manifest_of(identity: Identity, failed_rows: int = 0, max_rows: int | None = None, **other: Any) -> dict[str, Any]:
    sources = {"model": MODEL, "adapter": None, "dataset": DATA} | other
    tally = Tally(3, failed_rows, {"stop": 3 - failed_rows}, 1, 1, 0, {1: 3 - failed_rows})
    made = build(
        identity=identity,
        tally=tally,
        generated_rows=3,
        files=[],
        seconds={},
        engine={},
        image=None,
        max_rows=max_rows,
        **sources,
    )
    read: dict[str, Any] = json.loads(json_text(made))
    return read


def carried_out(written: str, folder: Path) -> dict[str, str]:
    """The environment in which a command starts python; `folder` gets what it writes."""
    python = folder / "python"
    python.write_text('#!/bin/sh\n[ "$*" = "-m job" ] && exec env -0\n')
    python.chmod(0o755)
    path = f"{folder}:/usr/bin:/bin"
    done = subprocess.run(["bash", "-euc", written], cwd=folder, env={"PATH": path}, capture_output=True, check=True)
    found = dict(each.split("=", 1) for each in done.stdout.decode().split("\0") if each)
    return {name: value for name, value in found.items() if name not in ("PATH", "PWD", "SHLVL", "_", "OLDPWD")}


def in_card(written: str) -> str:
    """The command after it was in a page."""
    page = f"before\n\n{markdown.block(written, 'bash')}\n\nafter\n"
    (fence,) = (token for token in MarkdownIt("commonmark").parse(page) if token.type == "fence")
    return fence.content


def test_a_run_as_by_default_names_model_and_dataset_alone() -> None:
    assert command(manifest_of(identity_of(REQUIRED))) == (
        f"env \\\n  MODEL_ID=org/model \\\n  MODEL_REVISION={'a' * 40} \\\n  DATASET_ID=org/data \\\n"
        f"  DATASET_REVISION={'b' * 40} \\\n  python -m job"
    )


@pytest.mark.parametrize("name", AWKWARD)
def test_each_setting_that_changes_an_answer_is_in_the_command(name: str, tmp_path: Path) -> None:
    environ = REQUIRED | {name: AWKWARD[name]} | ({"PROMPT_TEMPLATE": "chat"} if name == "SYSTEM_PROMPT" else {})
    identity = identity_of(environ)
    found = carried_out(in_card(command(manifest_of(identity))), tmp_path)
    assert identity.digest != identity_of(REQUIRED).digest
    assert found.keys() == environ.keys() | {"MODEL_REVISION", "DATASET_REVISION"}
    assert (found["MODEL_REVISION"], found["DATASET_REVISION"]) == (MODEL.commit, DATA.commit)
    assert identity_of(found).digest == identity.digest


def test_all_of_them_together(tmp_path: Path) -> None:
    identity = identity_of(REQUIRED | AWKWARD)
    assert identity_of(carried_out(in_card(command(manifest_of(identity))), tmp_path)).digest == identity.digest
    assert identity.facts.keys() - {"compile_model"} == identity_of(REQUIRED).facts.keys() | {"kv_cache_dtype"}


def test_no_setting_that_changes_an_answer_was_forgotten() -> None:
    """Beside those above: ENFORCE_EAGER rules COMPILE_MODEL out; the others are named by their sources."""
    facts = identity_of(REQUIRED | AWKWARD).facts
    others = {"model", "adapter", "dataset", "prompt", "sampling", "engine"}
    named = {name.lower() for name in AWKWARD}
    assert facts.keys() - others <= named
    assert set(facts["sampling"]) <= named  # type: ignore[call-overload]
    compiled = identity_of(REQUIRED | {"COMPILE_MODEL": "false"})
    assert "  COMPILE_MODEL=false \\\n" in command(manifest_of(compiled))


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    system=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    stop=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1),
)
def test_any_text_comes_through_page_and_shell(tmp_path_factory: pytest.TempPathFactory, system: str, stop: list[str]) -> None:
    environ = REQUIRED | {"PROMPT_TEMPLATE": "chat", "SYSTEM_PROMPT": system, "STOP": json.dumps(stop)}
    written = command(manifest_of(identity_of(environ)))
    found = carried_out(in_card(written), tmp_path_factory.mktemp("shell"))
    assert found["SYSTEM_PROMPT"] == system
    assert json.loads(found["STOP"]) == stop
    assert "<!--" not in written


@pytest.mark.parametrize(
    "source", ["Q: {{ instruction }}\n", "no line end", "\ufeff\ufeffmark {{ x }}", "it's ```\n$x \r\n\t'\n\n"]
)
def test_a_template_is_written_to_a_file_first(source: str, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.jinja"
    theirs.write_bytes(source.encode())
    identity = identity_of(REQUIRED | {"PROMPT_TEMPLATE": str(theirs)})
    written = command(manifest_of(identity))
    found = carried_out(in_card(written), tmp_path)
    assert str(tmp_path) not in written
    assert found["PROMPT_TEMPLATE"] == "prompt.jinja"
    assert identity_of(found | {"PROMPT_TEMPLATE": str(tmp_path / "prompt.jinja")}).digest == identity.digest


def test_the_rows_that_were_asked_for_and_those_that_failed_are_named() -> None:
    found = variables(manifest_of(identity_of(REQUIRED), failed_rows=2, max_rows=3))
    assert (found["MAX_ROWS"], found["MAX_FAILED_ROWS"]) == ("3", "2")


def test_another_engine_is_named_and_its_model_has_no_commit() -> None:
    echo = Source("echo-model", "none", local=False)
    identity = identity_of(REQUIRED, {"name": "echo", "version": 1})
    found = variables(manifest_of(identity, model=echo))
    assert (found["MODEL_ID"], found["ENGINE"]) == ("echo-model", "echo")
    assert "MODEL_REVISION" not in found


def test_an_adapter_is_named_at_its_commit() -> None:
    found = variables(manifest_of(identity_of(REQUIRED), adapter=Source("me/lora", "c" * 40, local=False)))
    assert (found["LORA_ID"], found["LORA_REVISION"]) == ("me/lora", "c" * 40)


def test_local_files_are_asked_for_by_their_digests_and_not_by_their_path() -> None:
    local: dict[str, Any] = {
        what: Source(f"/home/me/secret/{what}", f"sha256:{what}", local=True) for what in ("model", "adapter", "dataset")
    }
    manifest = manifest_of(identity_of(REQUIRED), **local)
    written = command(manifest)
    assert "secret" not in written
    assert "REVISION" not in written
    found = variables(manifest)
    asked = {need.path: (need.what, need.name, need.digest) for need in needs(manifest)}
    assert asked == {
        found["MODEL_ID"]: ("model", "model", "sha256:model"),
        found["LORA_ID"]: ("adapter", "adapter", "sha256:adapter"),
        found["DATASET_ID"]: ("dataset", "dataset", "sha256:dataset"),
    }


def test_what_is_not_an_answers_business_is_not_in_it() -> None:
    private = {
        "HF_TOKEN": "hf_secret_of_mine",
        "HUB_NAMESPACE": "me",
        "OUTPUT_DIR": "/home/me",
        "GPU_MEMORY_UTILIZATION": "0.5",
        "HF_HOME": "/home/me/hf",
    }
    assert command(manifest_of(identity_of(REQUIRED | private))) == command(manifest_of(identity_of(REQUIRED)))


@pytest.mark.parametrize(
    ("name", "ending"), [("rows.jsonl", ".jsonl"), ("a.b.parquet", ".parquet"), ("folder", ""), ("x.exe", "")]
)
def test_a_local_dataset_has_a_place_with_its_ending(name: str, ending: str) -> None:
    (need,) = needs({"model": None, "adapter": None, "dataset": {"name": name, "commit": "sha256:1", "local": True}})
    assert need.path == f"./path/of/the/dataset{ending}"
