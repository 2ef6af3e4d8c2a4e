"""The engine's arguments that are refused by name are those of the vLLM that is installed, and none that runs code is new."""

import ast
import importlib.util
import re
from pathlib import Path
from typing import get_args

import pytest

from job.engine_args import CODE, NAMED
from job.settings import KvCacheDtype

# Where vLLM describes the objects whose parts are refused.
OBJECTS = {
    "compilation_config": ("config/compilation.py", "CompilationConfig"),
    "speculative_config": ("config/speculative.py", "SpeculativeConfig"),
    "structured_outputs_config": ("config/structured_outputs.py", "StructuredOutputsConfig"),
}
FREE_FORM = {"override_generation_config"}  # a dictionary, of the names in generation_config.json
# Their names or types look like code, and they name none.
LOOKED_AT = {
    "max_lora_cls_labels",  # a number
    "lora_target_modules",  # parts of the model
}


def _vllm() -> Path:
    spec = importlib.util.find_spec("vllm")  # does not import it, which takes seconds
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _fields(file: str, name: str) -> dict[str, str]:
    """The fields of a class with their types, as they are written."""
    tree = ast.parse((_vllm() / file).read_text(encoding="utf-8"))
    (found,) = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name)
    return {
        each.target.id: ast.unparse(each.annotation)
        for each in found.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }


ARGUMENTS = _fields("engine/arg_utils.py", "EngineArgs")


@pytest.mark.parametrize("path", [*NAMED, *CODE])
def test_vllm_has_the_argument(path: str) -> None:
    outer, _, inner = path.partition(".")
    assert outer in ARGUMENTS
    if inner and outer not in FREE_FORM:
        assert inner in _fields(*OBJECTS[outer])


def test_the_formats_of_the_kv_cache_are_those_of_vllm() -> None:
    tree = ast.parse((_vllm() / "config" / "cache.py").read_text(encoding="utf-8"))
    (found,) = (
        each.value
        for each in tree.body
        if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name) and each.targets[0].id == "CacheDType"
    )
    assert isinstance(found, ast.Subscript)
    assert get_args(KvCacheDtype) == ast.literal_eval(found.slice)


def test_no_other_argument_looks_as_if_it_named_code() -> None:
    suspicious = {
        name
        for name, kind in ARGUMENTS.items()
        if re.search(r"_cls\b|_cls_|plugin|module|processors$|_class|callable", name) or re.search(r"\btype\[", kind)
    }
    assert suspicious - {path.split(".")[0] for path in CODE} == LOOKED_AT


def test_the_loader_reads_no_pickle_with_the_formats_that_it_is_told() -> None:
    """As read in vLLM 0.32: only these branches mark the files as safetensors before any is looked for."""
    source = (_vllm() / "model_executor" / "model_loader" / "default_loader.py").read_text(encoding="utf-8")
    for load_format, pattern in (("safetensors", "*.safetensors"), ("mistral", "consolidated*.safetensors")):
        branch = source[source.index(f'load_format == "{load_format}"') :]
        assert re.search(rf'use_safetensors = True\s+allow_patterns = \["{re.escape(pattern)}"\]', branch[:400])
    assert "if fall_back_to_pt and not use_safetensors:" in source
