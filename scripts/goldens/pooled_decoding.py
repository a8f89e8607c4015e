"""Goldens of an ensemble's pool of last hidden states: greedy answers, and the loss of an answer with its gradient in the pool's parameters, by transformers
and torch's autograd for tiny models of test/fixtures/model.

Run with the pinned transformers: python scripts/goldens/pooled_decoding.py
Writes test/fixtures/generate/pooled.json.
"""
import json
import pathlib

import torch
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "test/fixtures/generate/pooled.json"
MODELS = ["llama_plain", "qwen2", "qwen3"]
REQUESTS = [[3, 11, 7], [70, 1, 5], [12, 12, 9]]  # lengths of the agents' prompts
NEW_TOKENS = 20


def last_hidden(model, ids):
    """[T, H] behind the final norm."""
    return model(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False).hidden_states[-1][0]


def answer(model, prompts, weights):
    ids = []
    for _ in range(NEW_TOKENS):
        pooled = sum(w * last_hidden(model, prompt + ids)[-1] for w, prompt in zip(weights, prompts))
        ids.append(int(model.lm_head(pooled).argmax()))
    return ids


def loss_and_gradient(model, prompts, target, parameters):
    parameters = torch.tensor(parameters, requires_grad=True)
    with torch.no_grad():
        hidden = [last_hidden(model, prompt + target)[len(prompt) - 1:-1] for prompt in prompts]
    pooled = sum(w * h for w, h in zip(torch.softmax(parameters, 0), hidden))
    loss = torch.nn.functional.cross_entropy(model.lm_head(pooled), torch.tensor(target), reduction="sum")
    loss.backward()
    return float(loss.detach()), parameters.grad.tolist()


def case(name):
    model = AutoModelForCausalLM.from_pretrained(ROOT / "test/fixtures/model" / name, dtype=torch.float32).eval()
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(11)
    draw = lambda length: torch.randint(0, 97, (length,), generator=generator).tolist()
    requests = [[draw(length) for length in lengths] for lengths in REQUESTS]
    weights = [0.5, 0.2, 0.3]
    target, parameters = draw(6), [0.3, -0.4, 0.1]
    loss, gradient = loss_and_gradient(model, requests[0], target, parameters)
    with torch.no_grad():
        answers = [answer(model, prompts, weights) for prompts in requests]
    return {"model": name, "requests": requests, "weights": weights, "answers": answers, "target": target, "parameters": parameters, "loss": loss,
            "gradient": gradient}


if __name__ == "__main__":
    OUTPUT.write_text(json.dumps([case(name) for name in MODELS]) + "\n")
