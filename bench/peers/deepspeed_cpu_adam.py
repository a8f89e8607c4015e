#!/usr/bin/env python3
"""One step of DeepSpeedCPUAdam (deepspeed 0.19.8, which compiles it on first use: g++ and ninja) and of torch.optim.AdamW(fused=True) on the host, as
ZeRO-Offload runs it: fp32 weights, gradients and moments, no 16-bit copy (DeepSpeed sends the fp32 weights to the GPU). Best of the rounds.

Usage: deepspeed_cpu_adam.py MILLIONS_OF_PARAMETERS ROUNDS
"""
import math
import sys
import time

import torch

BYTES_PER_PARAMETER = 28  # gradient, and weight and moments twice


def optimizers(numel):
    from deepspeed.ops.adam import DeepSpeedCPUAdam
    makers = {"DeepSpeedCPUAdam, fp32 gradient": lambda p: DeepSpeedCPUAdam(p, lr=1e-4, weight_decay=0.1),
              "torch.optim.AdamW, fused, fp32 gradient": lambda p: torch.optim.AdamW(p, lr=1e-4, weight_decay=0.1, fused=True)}
    for name, make in makers.items():
        weight = torch.nn.Parameter(torch.full((numel,), 0.5))
        weight.grad = torch.full_like(weight, 1e-3)
        yield name, make([weight])


def main():
    numel, rounds = int(sys.argv[1]) << 20, int(sys.argv[2])
    candidates = list(optimizers(numel))
    best = dict.fromkeys((name for name, _ in candidates), math.inf)
    for index in range(rounds + 1):
        for name, optimizer in candidates:
            begin = time.perf_counter()
            optimizer.step()
            if index > 0:
                best[name] = min(best[name], time.perf_counter() - begin)
    for name, seconds in best.items():
        print(f"| {name} | {numel * BYTES_PER_PARAMETER / seconds / 1e9:.1f} | | {1e3 * seconds:.1f} |")


if __name__ == "__main__":
    main()
