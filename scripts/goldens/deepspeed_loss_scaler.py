#!/usr/bin/env python3
"""Scales of DeepSpeed's loss scalers (0.19.8) over random overflows, for test/optim/loss_scaler_test.cpp.

`updates`: one letter an update, x an overflow; `scales`: the scale after each.

Usage: deepspeed_loss_scaler.py test/fixtures/optim/loss_scaler.json
"""
import json
import random
import sys

import torch
from deepspeed import comm
from deepspeed.runtime.fp16.loss_scaler import CreateLossScaler
from deepspeed.runtime.precision_config import DeepSpeedFP16Config

BLOCKS = [
    {},
    {"loss_scale_window": 5},
    {"initial_scale_power": 10, "loss_scale_window": 3, "hysteresis": 1},
    {"initial_scale_power": 12, "loss_scale_window": 4, "hysteresis": 3},
    {"initial_scale_power": 12, "loss_scale_window": 4, "hysteresis": 3, "consecutive_hysteresis": True},
    {"initial_scale_power": 8, "loss_scale_window": 2, "hysteresis": 2, "min_loss_scale": 2},
    {"loss_scale": 128, "loss_scale_window": 2},
]


def trace(block, updates):
    config = DeepSpeedFP16Config(enabled=True, **block)
    scaler = CreateLossScaler(torch.half, config.loss_scale, config.loss_scale == 0, config.dynamic_loss_scale_args())
    scales = []
    for update in updates:
        try:
            scaler.update_scale(update == "x")
        except Exception as error:  # at the smallest scale: dsft counts on, so the trace ends
            assert "minimum" in str(error), error
            break
        scales.append(scaler.cur_scale)
    return scales


def main():
    comm.get_rank = lambda: 1  # of no job: asked before a line of log is printed
    draw = random.Random(5)
    cases = []
    for block in BLOCKS:
        for share in (0.04, 0.15):
            updates = "".join("x" if draw.random() < share else "." for _ in range(80))
            scales = trace(block, updates)
            cases.append({"fp16": block, "updates": updates[: len(scales)], "scales": scales})
    with open(sys.argv[1], "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
