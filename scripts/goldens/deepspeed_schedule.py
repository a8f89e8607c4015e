#!/usr/bin/env python3
"""Learning rates that DeepSpeed's schedulers (0.19.8) leave in an optimizer, for test/optim/schedule_test.cpp.

A scheduler is stepped after each update, as the engine does; row [s, rate] is what the update after s others uses, [s, rate, beta1, beta2] where the schedule moves
the betas. "adamw": weights after each update of torch.optim.AdamW under such a schedule, in fp64, for test/optim/adamw_test.cpp.

Usage: deepspeed_schedule.py test/fixtures/optim/deepspeed_schedules.json
"""
import json
import logging
import sys

import torch
from deepspeed.runtime import lr_schedules
from deepspeed.utils import logger

PEAK = 2e-4
# (type, what the recipe says: warm-up and length, what DeepSpeed is given, the keywords of the recipe)
WARMUPS = [(1, 12), (2, 9), (5, 20), (20, 20), (30, 20), (100, 1000)]
CYCLE = {"cycle_min_lr": 1e-5, "cycle_max_lr": 1e-3}
CYCLES = [
    {"cycle_first_step_size": 10},
    {"cycle_first_step_size": 7, "cycle_second_step_size": 13, "decay_step_size": 4, "decay_lr_rate": 0.5},
    {"cycle_first_step_size": 5, "cycle_second_step_size": 0},
    {"cycle_first_step_size": 12, "cycle_first_stair_count": 4},
    {"cycle_first_step_size": 12, "cycle_second_step_size": 9, "cycle_first_stair_count": 3, "cycle_second_stair_count": 2, "decay_step_size": 1, "decay_lr_rate": 0.01},
    {"cycle_first_step_size": 6, "cycle_first_stair_count": 0, "cycle_second_stair_count": 3, "decay_step_size": 3},
]

MOMENTA = [
    {"cycle_first_step_size": 10},
    {"cycle_first_step_size": 7, "cycle_second_step_size": 13, "decay_step_size": 4, "decay_lr_rate": 0.5, "cycle_min_mom": 0.85, "cycle_max_mom": 0.95, "decay_mom_rate": 0.001},
    {"cycle_first_step_size": 12, "cycle_first_stair_count": 4, "cycle_min_mom": 0.5},
    {"cycle_first_step_size": 5, "cycle_second_step_size": 0, "decay_step_size": 2, "decay_mom_rate": 0.002},
    {"cycle_first_step_size": 6, "decay_step_size": 0, "decay_mom_rate": 0.5, "cycle_max_mom": 0.99},
]


def rates(name, params, num_steps):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = getattr(lr_schedules, name)(optimizer, **params)
    rows = []
    for step in range(num_steps):
        group = optimizer.param_groups[0]
        rows.append([step, group["lr"], *(group["betas"] if params.get("cycle_momentum") else ())])
        scheduler.step()
    return rows


def warmup_cases():
    for warmup, total in WARMUPS:
        for extra in ({}, {"warmup_type": "linear"}):
            for least in ({}, {"warmup_min_lr": 3e-5}):
                kwargs = {**extra, **least}
                params = {"warmup_max_lr": PEAK, "warmup_num_steps": warmup, **kwargs}
                yield "WarmupLR", warmup, total, kwargs, params
                yield "WarmupDecayLR", warmup, total, kwargs, {**params, "total_num_steps": total}
                yield "WarmupDecayLR", warmup, total, {**kwargs, "total_num_steps": 15}, {**params, "total_num_steps": 15}
            for least in ({}, {"warmup_min_ratio": 0.1, "cos_min_ratio": 0.2}):
                kwargs = {**extra, **least}
                yield "WarmupCosineLR", warmup, total, kwargs, {"warmup_num_steps": warmup, "total_num_steps": total, **kwargs}


def one_cycle_cases():
    for cycle in CYCLES:
        kwargs = {**CYCLE, **cycle}
        yield "OneCycle", 0, 60, {**kwargs, "cycle_momentum": False}, {**kwargs, "cycle_momentum": False}
    for cycle in MOMENTA:
        kwargs = {**CYCLE, **cycle}
        yield "OneCycle", 0, 60, kwargs, {**kwargs, "cycle_momentum": True}


def adamw_case():
    torch.manual_seed(0)
    kwargs = {"cycle_min_lr": 1e-3, "cycle_max_lr": 1e-2, "cycle_first_step_size": 4, "decay_step_size": 1, "decay_lr_rate": 0.1, "decay_mom_rate": 0.01}
    options = {"betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.1}
    start, gradients = torch.randn(5, dtype=torch.float64), torch.randn(14, 5, dtype=torch.float64)
    weight = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.AdamW([weight], lr=PEAK, **options)
    scheduler = lr_schedules.OneCycle(optimizer, **kwargs)
    weights = []
    for gradient in gradients:
        weight.grad = gradient
        optimizer.step()
        scheduler.step()
        weights.append(weight.tolist())
    return {"kwargs": kwargs, "options": options, "start": start.tolist(), "gradients": gradients.tolist(), "weights": weights}


def main():
    logger.setLevel(logging.ERROR)
    cases = []
    for name, warmup, total, kwargs, params in [*warmup_cases(), *one_cycle_cases()]:
        rows = rates(name, params, total + 5)
        if total > 100:
            rows = [row for row in rows if row[0] % 37 == 0 or row[0] in (1, 2, 3, warmup, warmup + 1, warmup + 2, total)]
        cases.append({"name": name, "warmup": warmup, "total": total, "kwargs": kwargs, "rates": rows})
    with open(sys.argv[1], "w") as file:
        file.write('{"peak": ' + json.dumps(PEAK) + ', "cases": [\n' + ",\n".join(json.dumps(case) for case in cases) + '\n],\n"adamw": ' + json.dumps(adamw_case()) + "}\n")


if __name__ == "__main__":
    main()
