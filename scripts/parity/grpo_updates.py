#!/usr/bin/env python3
"""Updates of `recipe: grpo` against plain PyTorch on the same completions: reward, loss, gradient norm and entropy of 20 updates of all weights, fp32 on
the CPU. And what is sampled: first tokens of a policy that does not move, against the probabilities that transformers computes (chi-squared).

The formulas are those of TRL's GRPOTrainer at its defaults (docs/grpo.md): advantages by the group's mean and deviation, the clipped ratio, on-policy, over
the update's tokens. A program as a reward of weight 0 hands the token ids over.
"""
import json
import math
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parent / "grpo"))
from comparison import Comparisons, read_rows, run_dsft, write_rows  # noqa: E402
from grpo_curves import GRPO, TRAINING, similar  # noqa: E402
from rules import functions_of  # noqa: E402

NUM_UPDATES, NUM_DRAWN_ROUNDS = 20, 100
BOUNDS = {"reward": 1e-6, "grad_norm": 1e-3, "entropy": 1e-4}  # relative
LOSS_BOUND = 1e-5  # absolute: it may be 0
RECORDER = """import json, sys
print(json.dumps({"protocol": 1, "name": "recorder"}), flush=True)
with open(sys.argv[1], "w") as file:
    for line in sys.stdin:
        request = json.loads(line)
        for prompt, ids in zip(request["prompts"], request["completion_ids"]):
            print(json.dumps([request["step"], prompt, ids]), file=file, flush=True)
        print(json.dumps({"id": request["id"], "rewards": [0.0] * len(request["prompts"])}), flush=True)
"""


def run(case, folder, name, training):
    """Logs of a run's updates, and its completions: update -> prompt -> lists of token ids."""
    (folder / "recorder.py").write_text(RECORDER)
    write_rows(folder / "rows.jsonl", case.rows)
    recorded = folder / f"{name}.jsonl"
    program = {"command": f"python3 {folder / 'recorder.py'} {recorded}", "name": "recorder", "weight": 0, "workers": 1}
    recipe = {"recipe": "grpo", "output_dir": str(folder / name), "seed": 10, "device": "cpu", "model": {"path": str(case.model), "dtype": "fp32"},
              "data": {"train": [str(folder / "rows.jsonl")], "chat_template": str(case.chat_template)},
              "grpo": {**GRPO, **case.grpo, "rewards": case.rewards + [program]}, "training": {**TRAINING, **case.training, **training}}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    run_dsft("launch", folder / "recipe.yaml")
    completions = {}
    for step, prompt, ids in read_rows(recorded):
        completions.setdefault(step, {}).setdefault(prompt[0]["content"], []).append(ids)
    return read_rows(folder / name / "metrics.jsonl"), completions


class Policy:
    """The model, its tokenizer, and what the rule gives."""

    def __init__(self, case):
        self.tokenizer = AutoTokenizer.from_pretrained(case.model)
        self.tokenizer.chat_template = case.chat_template.read_text()
        self.model = AutoModelForCausalLM.from_pretrained(case.model, dtype=torch.float32)
        self.judge, = functions_of(case.rewards)
        self.answers = {row["prompt"][0]["content"]: row["answer"] for row in case.rows}

    def prompt_ids(self, prompt):
        messages = [{"role": "user", "content": prompt}]
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]

    def rewards(self, prompt, completions):
        texts = [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in completions]
        return torch.tensor([self.judge(text, ids, {"answer": self.answers[prompt]}) for text, ids in zip(texts, completions)], dtype=torch.float64)

    def log_probs(self, prompt, ids):
        """Of all tokens of the vocabulary at each place of a completion."""
        before = self.prompt_ids(prompt)
        return self.model(torch.tensor([before + ids])).logits[0, len(before) - 1:-1].log_softmax(-1)


def update(policy, optimizer, groups):
    """One update; what dsft logs of it."""
    num_tokens = sum(len(ids) for completions in groups.values() for ids in completions)
    rewards, loss, entropy = [], 0.0, 0.0
    optimizer.zero_grad()
    for prompt, completions in groups.items():
        group = policy.rewards(prompt, completions)
        rewards += group.tolist()
        for advantage, ids in zip((group - group.mean()) / (group.std() + 1e-4), completions):
            log_probs = policy.log_probs(prompt, ids)
            entropy -= (log_probs.exp() * log_probs).sum().item() / num_tokens
            chosen = log_probs.gather(1, torch.tensor(ids)[:, None])[:, 0]
            term = -(torch.exp(chosen - chosen.detach()) * advantage.item()).sum() / num_tokens
            term.backward()
            loss += term.item()
    norm = torch.nn.utils.clip_grad_norm_(policy.model.parameters(), TRAINING["max_grad_norm"]).item()
    optimizer.step()
    return {"reward": sum(rewards) / len(rewards), "loss": loss, "grad_norm": norm, "entropy": entropy}


def compare_updates(comparisons, case, folder):
    logs, completions = run(case, folder, "updates", {"max_steps": NUM_UPDATES})
    policy = Policy(case)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=case.training["learning_rate"], weight_decay=0.0)
    expected = [update(policy, optimizer, completions[log["step"]]) for log in logs]
    for name, bound in BOUNDS.items():
        comparisons.add_error(f"{name}, {NUM_UPDATES} updates, relative",
                              max(abs(log[name] - peer[name]) / abs(peer[name]) for log, peer in zip(logs, expected, strict=True)), bound)
    comparisons.add_error(f"loss, {NUM_UPDATES} updates", max(abs(log["loss"] - peer["loss"]) for log, peer in zip(logs, expected, strict=True)), LOSS_BOUND)


def chi_squared(counts, probabilities):
    """The sum, and its degrees of freedom: values that are expected fewer than five times count as one."""
    expected = probabilities * counts.sum()
    often = expected >= 5
    total = ((counts - expected)[often] ** 2 / expected[often]).sum() + (counts[~often].sum() - expected[~often].sum()) ** 2 / expected[~often].sum()
    return total.item(), often.sum().item()


def compare_samples(comparisons, case, folder):
    _, completions = run(case, folder, "samples", {"max_steps": NUM_DRAWN_ROUNDS, "learning_rate": 0.0})
    firsts = {}
    for groups in completions.values():
        for prompt, drawn in groups.items():
            firsts.setdefault(prompt, Counter()).update(ids[0] for ids in drawn)
    policy = Policy(case)
    total = freedom = 0
    for prompt, counter in firsts.items():
        with torch.no_grad():
            probabilities = policy.log_probs(prompt, [0])[0].double().exp()
        counts = torch.zeros_like(probabilities)
        counts[list(counter)] = torch.tensor([float(count) for count in counter.values()], dtype=torch.float64)
        added, own = chi_squared(counts, probabilities)
        total, freedom = total + added, freedom + own
    deviations = (total - freedom) / math.sqrt(2 * freedom)
    comparisons.add(f"first tokens of {sum(counter.total() for counter in firsts.values())} completions", f"chi-squared {total:.0f}", f"{freedom} expected",
                    "4 deviations", abs(deviations) < 4)


def main():
    comparisons = Comparisons("GRPO updates")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = similar(folder)
        compare_updates(comparisons, case, folder)
        compare_samples(comparisons, case, folder)
    comparisons.finish()


if __name__ == "__main__":
    main()
