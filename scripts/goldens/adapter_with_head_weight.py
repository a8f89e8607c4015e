"""Writes test/fixtures/spec/adapter_with_head_weight/: an adapter of the output embedding as PEFT saves it by default, with a copy of the base's weight.

Run with the pinned peers, after checkpoint_adapters.py: python scripts/goldens/adapter_with_head_weight.py
"""
import pathlib
import shutil
import warnings

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "test/fixtures"
BASE = "test/fixtures/checkpoint/base"
OUT = FIXTURES / "spec/adapter_with_head_weight"


def main():
    warnings.simplefilter("ignore")
    shutil.rmtree(OUT, ignore_errors=True)
    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(FIXTURES / "checkpoint/base")
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules=["lm_head", "q_proj"], r=2, lora_alpha=4))
    model.peft_config["default"].base_model_name_or_path = BASE  # not this machine's path
    model.save_pretrained(OUT)
    (OUT / "README.md").unlink()
    print(OUT)


main()
