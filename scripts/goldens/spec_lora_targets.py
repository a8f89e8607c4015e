"""Writes test/fixtures/spec/lora_targets.json: LoRA settings with the modules, ranks and scales that PEFT gives on a tiny Qwen3 and Llama, and the
keys of patterns and exclude_modules of which it warns that they match nothing.

Run with the pinned peers: python scripts/goldens/spec_lora_targets.py
"""
import ast
import json
import pathlib
import re
import warnings

import peft
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoConfig, AutoModelForCausalLM

OUT = pathlib.Path(__file__).resolve().parents[2] / "test/fixtures/spec/lora_targets.json"
SMALL = dict(vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=11, num_attention_heads=4, num_key_value_heads=2, head_dim=4)
MODELS = {
    "qwen3": dict(model_type="qwen3", **SMALL, tie_word_embeddings=True),
    "llama": dict(model_type="llama", **SMALL, tie_word_embeddings=False),
}
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = [
    dict(target_modules=["q_proj", "v_proj"]),
    dict(target_modules="all-linear"),
    dict(target_modules="ALL-linear"),
    dict(target_modules="all-linear", exclude_modules=["down_proj", "layers.3.self_attn.q_proj"]),
    dict(target_modules=ALL, exclude_modules=r"model\.layers\.[0-9]\..*"),
    dict(target_modules=r".*\.(1|10)\.self_attn\.(q|k)_proj"),
    dict(target_modules=r"q_proj"),
    dict(target_modules=r"(a|.*q_proj|.*q_proj.x)"),
    dict(target_modules=["lm_head", "o_proj"]),
    dict(target_modules=["proj"]),
    dict(target_modules=["_proj"]),
    dict(target_modules=["model.layers.0.mlp.up_proj", "k_proj"], layers_to_transform=[3, 10]),
    dict(target_modules=ALL, layers_to_transform=2),
    dict(target_modules=ALL, layers_to_transform=[1], layers_pattern="layers"),
    dict(target_modules=ALL, layers_to_transform=[1], layers_pattern=["blocks", "layers"]),
    dict(target_modules=ALL, layers_to_transform=[1], layers_pattern="blocks"),
    dict(target_modules=ALL, layers_to_transform=[99]),
    dict(target_modules=["q_proj"], rank_pattern={"layers.1.self_attn.q_proj": 3, "q_proj": 5}, alpha_pattern={r".*\.layers\.[01]\..*": 7}),
    dict(target_modules=["q_proj", "k_proj"], rank_pattern={"^model.layers.2.*": 3, "k_proj": 6}, use_rslora=True),
    dict(target_modules=["q_proj", "k_proj"], rank_pattern={"roj": 3}, alpha_pattern={"k_proj": 64}, use_rslora=True),
    dict(target_modules="all-linear", modules_to_save=["lm_head"]),
    dict(target_modules="all-linear", modules_to_save=["mlp"]),
    dict(target_modules="all-linear", modules_to_save=["norm"]),
    dict(target_modules=["q_proj"], modules_to_save=["q_proj"]),
    dict(target_modules=["q_proj", "c_attn"]),
    dict(target_modules=["q_proj"], rank_pattern={"k_proj": 3, "q_proj": 5, "c_attn": 7}, alpha_pattern={"k_proj": 64, "q_pro": 3}),
    dict(target_modules=["q_proj"], exclude_modules=["c_attn"]),
    dict(target_modules=["q_proj"], exclude_modules=r".*\.c_attn"),
    dict(target_modules=["mlp"]),
    dict(target_modules=r".*norm"),
    dict(target_modules=[]),
]


def unused_of(messages):
    unused = {}
    for message in messages:
        if found := re.search(r"The following (\w+) keys did not match any targeted module and were ignored: (\[.*\])\.", message):
            unused[found[1]] = ast.literal_eval(found[2])
        if "but no modules were excluded" in message:
            unused["exclude_modules"] = []
    return unused


def run(config, settings):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            wrapped = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **json.loads(json.dumps(settings))))
        except (ValueError, TypeError) as error:
            return dict(error=str(error)[:100])
    unused = unused_of([str(warning.message) for warning in caught])
    targets = {}
    for name, module in wrapped.get_base_model().named_modules():
        if isinstance(module, LoraLayer):
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            assert a.shape[0] == b.shape[1] == module.r["default"]
            targets[name] = [module.r["default"], module.scaling["default"], a.shape[1], b.shape[0]]
    saved = sorted(n for n, m in wrapped.get_base_model().named_modules() if type(m).__name__ == "ModulesToSaveWrapper")
    return dict(targets=targets, saved=saved, **(dict(unused=unused) if unused else {}))


def main():
    warnings.simplefilter("ignore")
    out = []
    for settings in CASES:
        for name, config in MODELS.items():
            out.append(dict(model=name, settings=settings, **run(config, settings)))
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in out)
    OUT.write_text(f'{{"peft":"{peft.__version__}","models":{json.dumps(MODELS)},"cases":[\n{lines}\n]}}\n')
    print(OUT, len(out), "cases")


main()
