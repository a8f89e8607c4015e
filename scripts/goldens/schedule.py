#!/usr/bin/env python3
"""Learning rates of transformers' get_scheduler (5.17), for test/optim/schedule_test.cpp.

Usage: schedule.py test/fixtures/optim/schedules.json
"""
import json
import sys

import torch
from transformers import get_scheduler

PEAK = 2e-4
LENGTHS = [(0, 20), (5, 20), (1, 7), (20, 20), (100, 1000)]  # (warm-up, total)
KWARGS = {
    "linear": [{}],
    "cosine": [{}, {"num_cycles": 1.5}],
    "cosine_with_restarts": [{}, {"num_cycles": 3}],
    "polynomial": [{}, {"lr_end": 1e-5, "power": 2.0}],
    "constant": [{}],
    "constant_with_warmup": [{}],
    "inverse_sqrt": [{}, {"timescale": 30}],
    "cosine_with_min_lr": [{"min_lr": 1e-5}, {"min_lr_rate": 0.25, "num_cycles": 0.7}],
    "cosine_warmup_with_min_lr": [{"min_lr": 1e-5}, {"min_lr_rate": 0.1, "warmup_lr_rate": 0.2}],
    "warmup_stable_decay": [
        {"num_decay_steps": 4},
        {"num_decay_steps": 6, "num_stable_steps": 3, "min_lr_ratio": 0.1},
        {"num_decay_steps": 2, "warmup_type": "cosine", "decay_type": "linear"},
        {"num_decay_steps": 2, "warmup_type": "1-sqrt", "decay_type": "1-sqrt", "min_lr_ratio": 0.3, "num_cycles": 1.0},
    ],
}


def rates(name, warmup, total, kwargs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    factor = get_scheduler(name, optimizer, warmup, total, scheduler_specific_kwargs=dict(kwargs)).lr_lambdas[0]
    steps = sorted({s for s in [0, 1, 2, 3, 4, 6, warmup - 1, warmup, warmup + 1, (warmup + total) // 2, total - 2, total - 1, total, total + 1, 3 * total]
                    if s >= 0})
    rows = []
    for step in steps:
        try:
            rows.append([step, PEAK * factor(step)])
        except ZeroDivisionError:  # polynomial without steps after the warm-up
            pass
    return rows


def main():
    cases = []
    for name, all_kwargs in KWARGS.items():
        for kwargs in all_kwargs:
            for warmup, total in LENGTHS:
                if name == "warmup_stable_decay" and "num_stable_steps" not in kwargs and warmup + kwargs["num_decay_steps"] > total:
                    continue  # a fault in dsft
                cases.append({"name": name, "warmup": warmup, "total": total, "kwargs": kwargs, "rates": rates(name, warmup, total, kwargs)})
    with open(sys.argv[1], "w") as file:
        file.write('{"peak": ' + json.dumps(PEAK) + ', "cases": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]}\n")


if __name__ == "__main__":
    main()
