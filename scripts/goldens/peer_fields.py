#!/usr/bin/env python3
"""Names of the arguments of transformers.TrainingArguments (5.17), trl.SFTConfig, trl.GRPOConfig and peft.LoraConfig, each with the recipe's section that takes them,
for test/recipe_config/peer_fields_test.cpp: a script's keyword arguments must all be known to dsft.

Usage: peer_fields.py test/fixtures/recipe_config/peer_fields.txt
"""
import dataclasses
import sys

import peft
import transformers
import trl

PEERS = [("training", transformers.TrainingArguments, transformers), ("training", trl.SFTConfig, trl), ("lora", peft.LoraConfig, peft),
         ("grpo", trl.GRPOConfig, trl)]
TRAINER_KEYS = {field.name for field in dataclasses.fields(transformers.TrainingArguments)}  # they stay in `training`


def main():
    lines, seen = [], set()
    for section, peer, package in PEERS:
        lines.append(f"# {package.__name__}.{peer.__name__} {package.__version__}")
        for field in dataclasses.fields(peer):
            key = f"{section}.{field.name}"
            if key in seen or (section == "grpo" and field.name in TRAINER_KEYS):
                continue
            lines.append(key)
            seen.add(key)
    open(sys.argv[1], "w").write("\n".join(lines) + "\n")
    print(len(seen), "names")


main()
