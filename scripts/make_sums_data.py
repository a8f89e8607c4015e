#!/usr/bin/env python3
"""Makes data/sums/{train,held_out}.jsonl: small sums in words for a policy that is rewarded for right answers.

Every row is {"prompt": [{"role": "user", "content": ...}], "answer": "12"}: one or two operations on small numbers, in the words of a few made
stories. No question of the held-out part is in the other. The output is a function of this script and --seed alone.

    python3 scripts/make_sums_data.py [--output data/sums] [--seed 7] [--train-rows 600] [--held-out-rows 100]
"""
import argparse
import random
from pathlib import Path

from row_files import write_rows

NAMES = ["Ada", "Ben", "Chen", "Dora", "Emil", "Fatima", "Goran", "Hana"]
THINGS = ["apples", "books", "coins", "eggs", "pens", "stamps", "shells", "tickets"]


def plus(rng, name, thing):
    a, b = rng.randint(2, 20), rng.randint(2, 20)
    return f"{name} has {a} {thing} and gets {b} more. How many {thing} does {name} have now?", a + b


def minus(rng, name, thing):
    a, b = rng.randint(10, 30), rng.randint(2, 9)
    return f"{name} has {a} {thing} and gives {b} away. How many {thing} are left?", a - b


def times(rng, name, thing):
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    return f"{name} fills {a} boxes with {b} {thing} each. How many {thing} are that?", a * b


def plus_and_minus(rng, name, thing):
    a, b, c = rng.randint(5, 20), rng.randint(5, 20), rng.randint(2, 9)
    return f"{name} had {a} {thing}, found {b} and lost {c}. How many {thing} does {name} have?", a + b - c


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("data/sums"))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--train-rows", type=int, default=600)
    parser.add_argument("--held-out-rows", type=int, default=100)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    asked = {}
    while len(asked) < options.train_rows + options.held_out_rows:
        question, answer = rng.choice([plus, minus, times, plus_and_minus])(rng, rng.choice(NAMES), rng.choice(THINGS))
        asked[question] = {"prompt": [{"role": "user", "content": question}], "answer": str(answer)}
    rows = list(asked.values())
    options.output.mkdir(parents=True, exist_ok=True)
    write_rows(options.output / "train.jsonl", rows[: options.train_rows])
    write_rows(options.output / "held_out.jsonl", rows[options.train_rows :])  # written last: its date is that of both
    print(f"{options.output}: {options.train_rows} and {options.held_out_rows} rows")


if __name__ == "__main__":
    main()
