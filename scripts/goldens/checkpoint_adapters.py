"""Writes test/fixtures/checkpoint/: a tiny Qwen2 base with tied embeddings, adapters that PEFT saved, the logits of base + adapter, and the weights of PEFT's
merge_and_unload.

Run with the pinned peers: python scripts/goldens/checkpoint_adapters.py
"""
import json
import pathlib
import shutil
import tempfile
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

OUT = pathlib.Path(__file__).resolve().parents[2] / "test/fixtures/checkpoint"
CASES = {
    "plain": dict(target_modules=["q_proj", "o_proj", "down_proj"], r=4, lora_alpha=8, rank_pattern={"layers.1.mlp.down_proj": 2}, alpha_pattern={"q_proj": 5}, use_rslora=True),
    "bias_all": dict(target_modules=["q_proj", "gate_proj"], r=2, lora_alpha=4, bias="all"),
    "bias_lora_only": dict(target_modules=["v_proj", "gate_proj"], r=2, lora_alpha=4, bias="lora_only"),
    "saved_head": dict(target_modules="all-linear", r=2, lora_alpha=4, modules_to_save=["lm_head"]),
    "saved_embedding": dict(target_modules=["k_proj"], r=2, lora_alpha=4, modules_to_save=["embed_tokens"], layers_to_transform=[1]),
    "saved_both": dict(target_modules=["k_proj"], r=2, lora_alpha=4, modules_to_save=["lm_head", "embed_tokens"]),
    "target_head": dict(target_modules=["lm_head", "q_proj"], r=2, lora_alpha=4),
    "target_head_saved_embedding": dict(target_modules=["lm_head"], r=2, lora_alpha=4, modules_to_save=["embed_tokens"]),
    "excluded_list": dict(target_modules=["q_proj", "v_proj", "down_proj"], r=2, lora_alpha=4, rank_pattern={"q_proj": 3, "layers.1.mlp.down_proj": 1}, alpha_pattern={"down_proj": 7}, layers_to_transform=[1], layers_pattern=["layers"], exclude_modules=["v_proj"]),
    "excluded_regex": dict(target_modules="all-linear", r=3, lora_alpha=6, use_rslora=True, exclude_modules=r"model\.layers\.0\..*"),
}
IDS = [3, 11, 7, 19, 0, 5, 5, 14]


def main():
    warnings.simplefilter("ignore")
    shutil.rmtree(OUT, ignore_errors=True)
    torch.manual_seed(1)
    config = Qwen2Config(vocab_size=20, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True)
    base = Qwen2ForCausalLM(config)
    for parameter in base.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    base.save_pretrained(OUT / "base")
    counts = {}
    for name, settings in CASES.items():
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(OUT / "base"), LoraConfig(task_type="CAUSAL_LM", **settings))
        for parameter_name, parameter in model.named_parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.5)
        counts[name] = dict(zip(("trainable", "total"), model.get_nb_trainable_parameters()))
        model.peft_config["default"].base_model_name_or_path = "test/fixtures/checkpoint/base"  # not this machine's path
        # the frozen weight that PEFT adds where an embedding is a target says nothing
        model.save_pretrained(OUT / name, save_embedding_layers=False)
        (OUT / name / "README.md").unlink()
        for dtype in (torch.float32, torch.bfloat16):
            if dtype == torch.bfloat16 and name != "plain":
                continue
            loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(OUT / "base", dtype=dtype), OUT / name)
            if dtype == torch.float32:
                with torch.no_grad():
                    save_file({"logits": loaded.eval()(torch.tensor([IDS])).logits[0]}, OUT / name / "logits.safetensors", {"format": "pt"})
            if name == "target_head":  # PEFT adds the head's update to the shared weight, and so to the embedding: no reference
                continue
            merged = loaded.merge_and_unload()
            tensors = {key: value.detach().clone().contiguous() for key, value in merged.state_dict().items()}
            if torch.equal(tensors["lm_head.weight"], tensors["model.embed_tokens.weight"]):
                del tensors["lm_head.weight"]
            suffix = "" if dtype == torch.float32 else "_bf16"
            save_file(tensors, OUT / name / f"merged{suffix}.safetensors", {"format": "pt"})
    (OUT / "parameter_counts.json").write_text(json.dumps(counts, indent=2) + "\n")
    print(OUT)


main()
