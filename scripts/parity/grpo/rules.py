#!/usr/bin/env python3
"""Three of dsft's built-in rewards (docs/rewards.md) in Python: what TRL's side is rewarded by, and a reward program that judges dsft's completions too.

As a program: rules.py ENTRIES, the entries of grpo.rewards as JSON; it gives the weighted sum. Needs nothing but Python.
"""
import difflib
import json
import sys


def length(entry):
    """1 from `min` to `max`, falling to 0 over `ramp` units outside."""
    def judge(text, ids, _):
        size = {"tokens": len(ids), "characters": len(text), "words": len(text.split())}[entry.get("unit", "tokens")]
        excess = max(entry.get("min", 0) - size, size - entry["max"] if "max" in entry else 0, 0)
        ramp = entry.get("ramp", 0)
        return 1.0 if excess == 0 else 0.0 if ramp == 0 else max(0.0, 1 - excess / ramp)
    return judge


def unique_characters(_):
    return lambda text, ids, columns: len(set(text)) / len(text) if text else 0.0


def similarity(entry):
    column = entry.get("column", "answer")
    return lambda text, ids, columns: difflib.SequenceMatcher(None, text, columns[column]).ratio()


MAKERS = {"length": length, "unique_characters": unique_characters, "similarity": similarity}


def functions_of(entries):
    """A function of (text, token ids, columns) for each entry."""
    return [MAKERS[entry["name"]](entry) for entry in entries]


def weights_of(entries):
    return [entry.get("weight", 1.0) for entry in entries]


def weighted_sum(entries, values):
    return sum(weight * value for weight, value in zip(weights_of(entries), values, strict=True))


def text_of(completion):
    return completion if isinstance(completion, str) else completion[-1]["content"]


def serve(entries):
    """The protocol of docs/rewards.md."""
    functions = functions_of(entries)
    print(json.dumps({"protocol": 1, "name": "rules"}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        rewards = []
        for i, (completion, ids) in enumerate(zip(request["completions"], request["completion_ids"], strict=True)):
            columns = {name: values[i] for name, values in request["columns"].items()}
            rewards.append(weighted_sum(entries, [judge(text_of(completion), ids, columns) for judge in functions]))
        print(json.dumps({"id": request["id"], "rewards": rewards}), flush=True)


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
