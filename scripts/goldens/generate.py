"""Goldens of generation: greedy answers of transformers' generate for the tiny models of test/fixtures/model, and the distributions its logits processors make.

Run with the pinned transformers: python scripts/goldens/generate.py
Writes test/fixtures/generate/{greedy.json, sampling.json}.
"""
import json
import pathlib

import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.generation.logits_process import (LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper,
                                                    TopKLogitsWarper, TopPLogitsWarper)

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "test/fixtures/generate"
MODELS = ["llama_plain", "llama_tied_bias", "llama_rope_dynamic", "llama_rope_llama3", "qwen2", "qwen3"]
LENGTHS = [1, 5, 12, 23, 9]
NEW_TOKENS = 20


def generate(name, prompt, **options):
    # a model of its own for each prompt: dynamic rotary scaling remembers the longest sequence that a model has seen
    model = AutoModelForCausalLM.from_pretrained(ROOT / "test/fixtures/model" / name, dtype=torch.float32)
    model.generation_config = GenerationConfig()  # the families' defaults have a stop token
    config = GenerationConfig(do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=0, **options)
    ids = torch.tensor([prompt])
    return model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)[0, len(prompt):].tolist()


def greedy_case(name):
    generator = torch.Generator().manual_seed(7)
    prompts = [torch.randint(0, 97, (length,), generator=generator).tolist() for length in LENGTHS]
    plain = [generate(name, prompt) for prompt in prompts]
    assert all(len(answer) == NEW_TOKENS for answer in plain)
    stop_ids = [plain[0][6], plain[3][12]]
    return {"model": name, "prompts": prompts, "plain": plain, "stop_ids": stop_ids,
            "stopped": [generate(name, prompt, eos_token_id=stop_ids) for prompt in prompts],
            "repetition_penalty": 1.3, "penalised": [generate(name, prompt, repetition_penalty=1.3) for prompt in prompts]}


def sampling_cases():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn((3, 40), generator=generator) * 3
    history = torch.randint(0, 40, (3, 12), generator=generator)
    cases = []
    for options in [{"temperature": 0.7}, {"temperature": 1.5, "top_k": 7}, {"temperature": 1.0, "top_p": 0.8}, {"temperature": 0.9, "min_p": 0.1},
                    {"temperature": 1.3, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.4}, {"temperature": 1.0, "top_p": 0.01}]:
        processors = LogitsProcessorList()
        if "repetition_penalty" in options:
            processors.append(RepetitionPenaltyLogitsProcessor(options["repetition_penalty"]))
        processors.append(TemperatureLogitsWarper(options["temperature"]))
        if "top_k" in options:
            processors.append(TopKLogitsWarper(options["top_k"]))
        if "top_p" in options:
            processors.append(TopPLogitsWarper(options["top_p"]))
        if "min_p" in options:
            processors.append(MinPLogitsWarper(options["min_p"]))
        cases.append({"options": options, "probabilities": torch.softmax(processors(history, logits.clone()), -1).tolist()})
    return {"logits": logits.tolist(), "history": history.tolist(), "cases": cases}


if __name__ == "__main__":
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "greedy.json").write_text(json.dumps([greedy_case(name) for name in MODELS]) + "\n")
    (OUTPUT / "sampling.json").write_text(json.dumps(sampling_cases()) + "\n")
