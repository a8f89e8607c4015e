#!/usr/bin/env python3
"""Greedy generation of dsft against transformers, fp32 on the CPU: the ids must be equal."""
import json
import tempfile
from pathlib import Path

import torch
from comparison import STARTER_MODEL, Comparisons, run_dsft

PROMPTS = ["The capital of France is", "def fibonacci(n):\n", "<|im_start|>user\nName three colors.<|im_end|>\n<|im_start|>assistant\n"]
MAX_NEW_TOKENS = 32


def main():
    from transformers import AutoModelForCausalLM, AutoTokenizer
    comparisons = Comparisons("greedy generation")
    tokenizer = AutoTokenizer.from_pretrained(STARTER_MODEL)
    model = AutoModelForCausalLM.from_pretrained(STARTER_MODEL, dtype=torch.float32)
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        expected = model.generate(ids, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)[0, ids.shape[1]:].tolist()
        answer = json.loads(run_dsft("generate", "--model", STARTER_MODEL, "--prompt", prompt, "--temperature", "0", "--max-new-tokens",
                                     MAX_NEW_TOKENS, "--dtype", "fp32", "--device", "cpu", "--json"))[0]
        same = sum(1 for ours, theirs in zip(answer["token_ids"], expected) if ours == theirs)
        comparisons.add(repr(prompt[:24]), f"{same} of {len(answer['token_ids'])} ids equal", f"{len(expected)} ids", "equal",
                        answer["token_ids"] == expected and answer["prompt_token_ids"] == ids[0].tolist())
    comparisons.finish()


if __name__ == "__main__":
    main()
