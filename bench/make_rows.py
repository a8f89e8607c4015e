#!/usr/bin/env python3
"""Rows of token ids and labels for bench/sft_cpu.sh, the same for dsft and the peer; one JSON object a line.

    make_rows.py full 2048 24          24 rows of 2048 tokens, all supervised
    make_rows.py third 2048 24         the last 30 % of each row supervised
    make_rows.py mixed 1024 64         lengths from 32 to 1024, most of them short, all supervised
"""
import argparse
import json
import random

VOCABULARY = 49152
FIRST_PLAIN_ID = 17  # ids below are special tokens of the starter model
IGNORED = -100


def make_row(rng, kind, length):
    if kind == "mixed":
        length = min(length, 32 + int(rng.expovariate(1 / (length / 5))))
    ids = [rng.randrange(FIRST_PLAIN_ID, VOCABULARY) for _ in range(length)]
    num_ignored = int(length * 0.7) if kind == "third" else 0
    return {"token_ids": ids, "labels": [IGNORED] * num_ignored + ids[num_ignored:]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["full", "third", "mixed"])
    parser.add_argument("length", type=int)
    parser.add_argument("count", type=int)
    args = parser.parse_args()
    rng = random.Random(f"{args.kind}/{args.length}")
    for _ in range(args.count):
        print(json.dumps(make_row(rng, args.kind, args.length)))
