#!/usr/bin/env python3
"""Log-probabilities of `dsft score` against transformers, fp32 on the CPU: random checkpoints of every family, and the starter model."""
import random
import tempfile
from pathlib import Path

import torch
from comparison import STARTER_MODEL, Comparisons, random_configs, random_row, read_rows, run_dsft, save_random_model, write_rows

BOUND = 1e-4
LENGTHS = [2, 7, 33, 120, 300]


def peer_log_probs(model, ids):
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].float()
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def largest_error(model, model_path, folder):
    rng = random.Random(3)
    rows = [{"token_ids": random_row(rng, length)["token_ids"]} for length in LENGTHS]
    write_rows(folder / "rows.jsonl", rows)
    run_dsft("score", "--model", model_path, "--input", folder / "rows.jsonl", "--output", folder / "scores.jsonl", "--dtype", "fp32", "--device", "cpu")
    error = 0.0
    for row, scored in zip(rows, read_rows(folder / "scores.jsonl"), strict=True):
        assert scored["token_ids"] == row["token_ids"] and scored["log_probs"][0] is None
        error = max(error, (torch.tensor(scored["log_probs"][1:]) - peer_log_probs(model, row["token_ids"])).abs().max().item())
    return error


def main():
    from transformers import AutoModelForCausalLM
    comparisons = Comparisons("log-probs")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case, config in random_configs().items():
            model_path = folder / case.replace(" ", "-").replace(",", "")
            comparisons.add_error(case, largest_error(save_random_model(config, model_path), model_path, folder), BOUND)
        starter = AutoModelForCausalLM.from_pretrained(STARTER_MODEL, dtype=torch.float32)
        comparisons.add_error("SmolLM2-135M-Instruct", largest_error(starter, STARTER_MODEL, folder), BOUND)
    comparisons.finish()


if __name__ == "__main__":
    main()
