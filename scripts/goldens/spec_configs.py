"""Writes test/fixtures/spec/configs.json: config.json variants with what transformers makes of them (resolved fields, tensor names and shapes).

Run with the pinned peers: python scripts/goldens/spec_configs.py
"""
import json
import pathlib

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

OUT = pathlib.Path(__file__).resolve().parents[2] / "test/fixtures/spec/configs.json"
SMALL = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4)

CASES = {
    "llama_v4_plain": dict(model_type="llama", **SMALL, num_key_value_heads=2, rope_theta=500000.0, torch_dtype="bfloat16", eos_token_id=[5, 6]),
    "llama_defaults": dict(model_type="llama", num_hidden_layers=1, hidden_size=64, num_attention_heads=8, intermediate_size=96, vocab_size=100),
    "llama_null_kv": dict(model_type="llama", **SMALL, num_key_value_heads=None, pad_token_id=None, eos_token_id=None, bos_token_id=None),
    "llama_bias_head_dim": dict(model_type="llama", **SMALL, num_key_value_heads=1, head_dim=16, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "llama_llama3_v4": dict(model_type="llama", **SMALL, max_position_embeddings=131072, rope_theta=500000.0,
                            rope_scaling=dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192, rope_type="llama3")),
    "llama_llama3_v5": dict(model_type="llama", **SMALL, max_position_embeddings=131072, dtype="float16",
                            rope_parameters=dict(factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192, rope_type="llama3", rope_theta=500000.0)),
    "llama_linear_old": dict(model_type="llama", **SMALL, max_position_embeddings=4096, rope_scaling=dict(type="linear", factor=4.0)),
    "llama_dynamic": dict(model_type="llama", **SMALL, max_position_embeddings=4096, rope_scaling=dict(type="dynamic", factor=2.0), torch_dtype="float32"),
    "llama_scaling_null": dict(model_type="llama", **SMALL, rope_scaling=None, rope_theta=10000.0),
    "qwen2_yarn": dict(model_type="qwen2", **SMALL, num_key_value_heads=2, max_position_embeddings=32768, rope_theta=1000000.0,
                       rope_scaling=dict(type="yarn", factor=4.0, original_max_position_embeddings=8192)),
    "qwen2_yarn_full": dict(model_type="qwen2", **SMALL, num_key_value_heads=2, max_position_embeddings=32768,
                            rope_parameters=dict(rope_type="yarn", rope_theta=1e6, factor=4.0, beta_fast=16, beta_slow=2, mscale=0.7, mscale_all_dim=0.9,
                                                 original_max_position_embeddings=8192, truncate=False)),
    "qwen2_sliding": dict(model_type="qwen2", **SMALL, num_key_value_heads=4, use_sliding_window=True, sliding_window=16, max_window_layers=2),
    "qwen2_tied_v4": dict(model_type="qwen2", **SMALL, num_key_value_heads=2, tie_word_embeddings=True, use_sliding_window=False, sliding_window=32768,
                          max_window_layers=21, torch_dtype="bfloat16", rope_theta=1000000.0, eos_token_id=7, bos_token_id=3),
    "qwen3_v4": dict(model_type="qwen3", **SMALL, num_key_value_heads=2, head_dim=8, tie_word_embeddings=True, attention_bias=False, rope_theta=1000000,
                     rope_scaling=None, sliding_window=None, use_sliding_window=False, torch_dtype="bfloat16"),
    "qwen3_default_head_dim_bias": dict(model_type="qwen3", **SMALL, num_key_value_heads=2, attention_bias=True),
    "qwen3_layer_types": dict(model_type="qwen3", **SMALL, num_key_value_heads=2, head_dim=8, use_sliding_window=True, sliding_window=8,
                              layer_types=["full_attention", "sliding_attention", "full_attention"]),
}
# what transformers writes into every config.json and no decoder reads
UNREAD = ("_name_or_path", "chunk_size_feed_forward", "id2label", "is_encoder_decoder", "label2id", "output_attentions", "output_hidden_states", "problem_type", "return_dict")


def resolve(config):
    model_type = config["model_type"]
    c = AutoConfig.for_model(**config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(c)
    attention = model.model.layers[0].self_attn
    rope = dict(c.rope_parameters)
    names = {n: list(p.shape) for n, p in model.named_parameters()}
    eos = c.eos_token_id
    expected = dict(
        vocab_size=c.vocab_size, hidden_size=c.hidden_size, intermediate_size=c.intermediate_size, num_hidden_layers=c.num_hidden_layers,
        num_attention_heads=c.num_attention_heads, num_key_value_heads=c.num_key_value_heads, head_dim=attention.head_dim,
        max_position_embeddings=c.max_position_embeddings, rms_norm_eps=c.rms_norm_eps, tie_word_embeddings=c.tie_word_embeddings,
        initializer_range=c.initializer_range, bos_token_id=c.bos_token_id, pad_token_id=c.pad_token_id,
        eos_token_ids=[] if eos is None else eos if isinstance(eos, list) else [eos],
        dtype=None if c.dtype is None else str(c.dtype).removeprefix("torch."), rope=rope,
        sliding_window=getattr(c, "sliding_window", None) if model_type != "llama" else None,
        layer_types=getattr(c, "layer_types", None) if model_type != "llama" else None,
        modules=[n for n, _ in model.named_modules() if n],
    )
    return dict(expected=expected, tensors=names)


def main():
    cases = {}
    for name, config in CASES.items():
        cases[name] = dict(config=config, **resolve(json.loads(json.dumps(config))))
        # the same model as transformers 5 writes it
        again = AutoConfig.for_model(**json.loads(json.dumps(config))).to_dict()
        again = json.loads(json.dumps({key: value for key, value in again.items() if key not in UNREAD}))
        cases[name + "_rewritten"] = dict(config=again, **resolve(dict(again)))
    for name, case in cases.items():
        if name not in ("llama_bias_head_dim", "qwen3_v4"):
            case["expected"].pop("modules")
        if name.endswith("_rewritten"):
            case.pop("tensors")
    lines = ",\n".join(json.dumps(name) + ":" + json.dumps(case, separators=(",", ":")) for name, case in cases.items())
    OUT.write_text(f'{{"transformers":"{transformers.__version__}","cases":{{\n{lines}\n}}}}\n')
    print(OUT, len(cases), "cases")


main()
