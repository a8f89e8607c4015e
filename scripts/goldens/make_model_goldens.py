"""Goldens of the model families: tiny random checkpoints with the reference implementation's logits, loss and gradients.

Run with the pinned transformers (semantics of scripts/parity.sh's environment): python scripts/goldens/make_model_goldens.py
The cases of DIALECT_4 have the config.json of transformers 4, which the reference reads back before it computes.
Writes test/fixtures/model/<case>/{config.json, model.safetensors, golden.safetensors}.
"""
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

OUTPUT = pathlib.Path(__file__).resolve().parents[2] / "test/fixtures/model"

SMALL = dict(vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=64, initializer_range=0.2, attn_implementation="eager", pad_token_id=None)


def rope(kind, **more):
    return dict(rope_type=kind, rope_theta=10000.0, **more)


CASES = {
    "llama_plain": LlamaConfig(**SMALL, tie_word_embeddings=False, rope_parameters=rope("default")),
    "llama_tied_bias": LlamaConfig(**SMALL, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, head_dim=16, rope_parameters=rope("default")),
    "llama_rope_linear": LlamaConfig(**SMALL, rope_parameters=rope("linear", factor=2.5)),
    "llama_rope_dynamic": LlamaConfig(**{**SMALL, "max_position_embeddings": 8}, rope_parameters=rope("dynamic", factor=2.0)),
    "llama_rope_yarn": LlamaConfig(**SMALL, rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=16)),
    "llama_rope_yarn_mscale": LlamaConfig(**SMALL, rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=16, mscale=1.5, mscale_all_dim=0.7,
                                                                        beta_fast=4.0, beta_slow=2.0, truncate=False)),
    "llama_rope_yarn_factor": LlamaConfig(**SMALL, rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=16, attention_factor=1.25)),
    "llama_rope_llama3": LlamaConfig(**SMALL, rope_parameters=rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                                                   original_max_position_embeddings=16)),
    "qwen2": Qwen2Config(**SMALL, tie_word_embeddings=True, rope_parameters=rope("default")),
    "qwen2_sliding": Qwen2Config(**SMALL, tie_word_embeddings=False, use_sliding_window=True, sliding_window=5, max_window_layers=1,
                                 rope_parameters=rope("default")),
    "qwen3": Qwen3Config(**SMALL, head_dim=16, tie_word_embeddings=True, rope_parameters=rope("default")),
    "qwen3_bias": Qwen3Config(**SMALL, head_dim=16, tie_word_embeddings=False, attention_bias=True, rope_parameters=rope("default")),
}
DIALECT_4 = {"llama_rope_yarn_factor"}


def write_dialect_4(path):
    config = json.loads(path.read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = parameters
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2) + "\n")


def make_case(name, config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms would start at constants that hide mistakes
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    folder = OUTPUT / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if name in DIALECT_4:
        write_dialect_4(folder / "config.json")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    # Two documents of different length; the reference sees them one by one.
    documents = [torch.randint(0, config.vocab_size, (1, length)) for length in (11, 23)]  # the longer one second: dynamic rope remembers the longest
    labels = []
    for ids in documents:
        row = ids.clone()
        row[:, : ids.size(1) // 3] = -100
        labels.append(row)
    count = sum(int((row[:, 1:] != -100).sum()) for row in labels)
    logits = []
    loss = 0.0
    for ids, row in zip(documents, labels):
        out = model(ids).logits
        logits.append(out[0].detach())
        loss = loss + torch.nn.functional.cross_entropy(out[0, :-1], row[0, 1:], ignore_index=-100, reduction="sum")
    loss = loss / count
    loss.backward()
    golden = {"ids": torch.cat(documents, 1)[0], "labels": torch.cat(labels, 1)[0], "boundaries": torch.tensor([0, 11, 34]),
              "logits": torch.cat(logits), "loss": loss.detach().reshape(1)}
    for parameter_name, parameter in model.named_parameters():
        golden["grad." + parameter_name] = parameter.grad.contiguous()
    save_file(golden, folder / "golden.safetensors")


if __name__ == "__main__":
    for case_name, case_config in CASES.items():
        make_case(case_name, case_config)
        print(case_name)
