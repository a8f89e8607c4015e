#!/usr/bin/env python3
"""Advantages by TRL's own lines (trl 1.16, GRPOTrainer._generate_and_score_completions, from the rewards to the advantages) for made-up rewards, for
test/rl/advantages_test.cpp. Rewards are binary fractions, so that fp32 holds them; null: the reward does not apply.

Usage: grpo_advantages.py test/fixtures/rl/advantages.json
"""
import inspect
import json
import sys
import textwrap
from types import SimpleNamespace

import torch
import trl
from trl.trainer import grpo_trainer

FIRST, LAST = "        unscorable_mask = torch.isnan", "        advantages = torch.nan_to_num(advantages, nan=0.0)\n"
NONE = float("nan")


def trl_lines():
    source = inspect.getsource(grpo_trainer.GRPOTrainer._generate_and_score_completions)
    begin, end = source.index(FIRST), source.index(LAST) + len(LAST)
    return compile(textwrap.dedent(source[begin:end]), "trl", "exec")


def advantages_of(code, rewards, weights, num_generations, aggregation, scale):
    rewards_per_func = torch.tensor(rewards, dtype=torch.float32)
    trainer = SimpleNamespace(multi_objective_aggregation=aggregation, scale_rewards=scale, reward_weights=torch.tensor(weights, dtype=torch.float32),
                              reward_funcs=weights)
    names = {**vars(grpo_trainer), "self": trainer, "rewards_per_func": rewards_per_func, "num_generations": num_generations, "device": "cpu"}
    exec(code, names)
    return names["advantages"].tolist(), names["is_std_zero"].float().mean().item()


def main():
    code = trl_lines()
    generator = torch.Generator().manual_seed(5)
    tables = {
        "one reward": ([[v] for v in (torch.randint(0, 9, (12,), generator=generator) / 8).tolist()], [1.0], 4),
        "equal in a group": ([[1.0], [1.0], [1.0], [0.0], [0.5], [1.0]], [2.0], 3),
        "two rewards": ((torch.randint(0, 17, (16, 2), generator=generator) / 16).tolist(), [1.0, 0.25], 8),
        "some apply to some": ([[1.0, NONE], [0.5, 2.0], [NONE, NONE], [0.0, 1.0], [NONE, 0.5], [0.25, NONE], [NONE, NONE], [NONE, 4.0]], [1.0, 0.5], 4),
        "none applies to a group": ([[NONE], [NONE], [0.5], [1.0]], [1.0], 2),
        "one of a group is scored": ([[NONE, NONE], [0.5, 1.0], [1.0, 2.0], [0.0, 0.0]], [1.0, 1.0], 2),
        "negative weight": ((torch.randint(0, 17, (12, 3), generator=generator) / 16).tolist(), [1.0, -0.5, 2.0], 6),
        "one completion": ([[0.5], [0.25], [1.0]], [1.0], 1),
    }
    cases = []
    for name, (rewards, weights, num_generations) in tables.items():
        for aggregation, scale in (("sum_then_normalize", "group"), ("sum_then_normalize", "batch"), ("sum_then_normalize", "none"),
                                   ("normalize_then_sum", "group")):
            values, share = advantages_of(code, rewards, weights, num_generations, aggregation, scale)
            cases.append({"name": name, "rewards": [[None if v != v else v for v in row] for row in rewards], "weights": weights,
                          "num_generations": num_generations, "aggregation": aggregation, "scale_rewards": scale, "advantages": values,
                          "frac_reward_zero_std": share})
    with open(sys.argv[1], "w") as file:
        file.write(json.dumps({"trl": trl.__version__}) [:-1] + ', "cases": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]}\n")
    print(len(cases), "cases")


main()
