#!/usr/bin/env python3
"""One run of TRL's GRPOTrainer for grpo_curves.py: trl_run.py JOB, a JSON file with what dsft's recipe has, under the same names.

Writes {"rewards": of each update, "seconds": of each update, "completions": [{text, completion_ids, columns, values}]} to the job's `result`.
"""
import json
import sys
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from rules import functions_of, text_of, weights_of
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback, set_seed
from trl import GRPOConfig, GRPOTrainer


class StepClock(TrainerCallback):
    """Seconds of each update: sampling, rewards, passes, optimizer."""

    def __init__(self):
        self.seconds = []

    def on_step_begin(self, *_, **__):
        self.begin = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.seconds.append(time.perf_counter() - self.begin)


def reward_functions(entries, log):
    """One function for TRL for each entry, by its name; they note in `log` what they judge, in equal order."""
    def make(index, entry, judge):
        def reward(prompts, completions, completion_ids, trainer_state, **columns):
            columns = {name: column for name, column in columns.items() if isinstance(column, list) and len(column) == len(completions)}
            values = []
            for i, (completion, ids) in enumerate(zip(completions, completion_ids, strict=True)):
                own = {name: column[i] for name, column in columns.items()}
                values.append(judge(text_of(completion), ids, own))
                log[index].append({"text": text_of(completion), "completion_ids": ids, "columns": own, "value": values[-1]})
            return values
        reward.__name__ = entry["name"]
        return reward
    return [make(index, entry, judge) for index, (entry, judge) in enumerate(zip(entries, functions_of(entries), strict=True))]


def main(job):
    set_seed(job["seed"])
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    if job["chat_template"]:
        tokenizer.chat_template = Path(job["chat_template"]).read_text()
    rows = [json.loads(line) for line in Path(job["rows"]).read_text().splitlines()]
    log = [[] for _ in job["rewards"]]
    clock = StepClock()
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32), processing_class=tokenizer,
        reward_funcs=reward_functions(job["rewards"], log), train_dataset=Dataset.from_list(rows), callbacks=[clock],
        peft_config=LoraConfig(**job["lora"]) if job["lora"] else None,
        args=GRPOConfig(output_dir=job["output_dir"], seed=job["seed"], use_cpu=True, bf16=False, disable_tqdm=True,
                        reward_weights=weights_of(job["rewards"]), **job["grpo"], **job["training"]))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    completions = [{**samples[0], "values": [sample["value"] for sample in samples]} for samples in zip(*log, strict=True)]
    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    Path(job["result"]).write_text(json.dumps({"rewards": rewards, "seconds": clock.seconds, "completions": completions}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
