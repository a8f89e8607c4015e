#!/usr/bin/env python3
"""20 steps of torch.optim.AdamW with clip_grad_norm_ (torch 2.11), for test/optim/adamw_test.cpp.

Usage: optim_adamw.py test/fixtures/optim/adamw.json
"""
import json
import sys

import torch

NUM_STEPS, NUM_ELEMENTS = 20, 37


def rounded(tensor):
    """Decimal digits enough for every fp32 value."""
    return [float(f"{value:.9g}") for value in tensor.tolist()]


def weight_in_fp64(golden):
    """The same updates without rounding to fp32."""
    weight = torch.nn.Parameter(torch.tensor(golden["start"], dtype=torch.float64))
    optimizer = torch.optim.AdamW([weight], **golden["options"])
    for gradient in golden["gradients"]:
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        torch.nn.utils.clip_grad_norm_([weight], golden["max_norm"])
        optimizer.step()
    return weight.detach().tolist()


def main():
    torch.manual_seed(0)
    options = {"lr": 3e-3, "betas": (0.9, 0.95), "eps": 1e-6, "weight_decay": 0.1}
    max_norm = 1.0
    weight = torch.nn.Parameter(torch.randn(NUM_ELEMENTS))
    optimizer = torch.optim.AdamW([weight], fused=True, **options)
    start, gradients, norms = rounded(weight.detach()), [], []
    for step in range(NUM_STEPS):
        gradient = torch.randn(NUM_ELEMENTS) * (0.01 if step % 3 else 1.0)
        gradients.append(rounded(gradient))
        weight.grad = torch.tensor(gradients[-1])
        norms.append(torch.nn.utils.clip_grad_norm_([weight], max_norm).item())
        optimizer.step()
    state = optimizer.state[weight]
    golden = {"options": options, "max_norm": max_norm, "start": start, "gradients": gradients, "norms": norms,
              "weight": rounded(weight.detach()), "exp_avg": rounded(state["exp_avg"]), "exp_avg_sq": rounded(state["exp_avg_sq"])}
    golden["weight_fp64"] = weight_in_fp64(golden)
    with open(sys.argv[1], "w") as file:
        json.dump(golden, file)
        file.write("\n")


if __name__ == "__main__":
    main()
