#!/usr/bin/env python3
"""Reward curves of dsft's GRPO beside those of TRL's GRPOTrainer: rules as rewards, fp32 on the CPU, several seeds, seconds per update.

    scripts/parity/grpo_curves.py [--cases NAME ...] [--seeds N] [--plot FILE.svg] [--work DIR]

Both sides start from one checkpoint, read the same prompts and take the same keys, which have the same names in dsft's recipe and in TRL's configuration.
They run by turns, so that other work of the machine meets both. A case holds where dsft's mean reward of the last updates, over the seeds, is not below TRL's
by more than TRL's standard deviation over its seeds (one seed alone is shown, not judged). Every completion of both sides is judged by both sides' rules.
"""
import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "grpo"))
from comparison import ROOT, STARTER_MODEL, Comparisons, read_rows, run_dsft, write_rows  # noqa: E402
from curve_plot import draw  # noqa: E402
from rules import weighted_sum  # noqa: E402

PARTS = Path(__file__).parent / "grpo"
PATIENCE_S = 3600  # for an update: where other work has the cores it may take minutes
ADDED_NAME = "python"  # the rules in Python among the rewards of dsft's runs, with weight 0
# What both sides are told, key by key; the rest is each one's default, which are the same.
GRPO = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "beta": 0.0, "loss_type": "dapo", "scale_rewards": "group", "num_iterations": 1}
TRAINING = {"lr_scheduler_type": "constant", "warmup_steps": 0, "weight_decay": 0.0, "max_grad_norm": 1.0, "gradient_accumulation_steps": 1,
            "gradient_checkpointing": True, "logging_steps": 1, "save_strategy": "no", "report_to": ["none"]}
# The random model of test/end_to_end/run_dsft.h, which test/end_to_end/grpo_test.cpp trains.
TINY_CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 1024, "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
    "hidden_act": "silu", "tie_word_embeddings": True, "initializer_range": 0.3, "rope_theta": 10000.0, "torch_dtype": "float32",
    "bos_token_id": 1, "eos_token_id": 2}
CHATML = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")

COUNTRIES = ["France", "Italy", "Spain", "Japan", "China", "India", "Egypt", "Kenya", "Brazil", "Peru", "Canada", "Mexico", "Norway", "Poland",
             "Greece", "Turkey"]


@dataclass(frozen=True)
class Case:
    """A model, its prompts, and what both sides are told about them."""
    title: str
    model: Path
    chat_template: Path | None  # None: the checkpoint's own
    rows: list
    rewards: list
    grpo: dict
    training: dict
    lora: dict | None = None

    def num_last(self):
        """Updates that count as the end."""
        return max(self.training["max_steps"] // 5, 1)


def user_turn(content):
    return [{"role": "user", "content": content}]


def tiny_case(title, rewards, num_updates, learning_rate, folder):
    """A random model of two layers, all of whose weights are trained."""
    model, template = folder / "tiny", folder / "chatml.jinja"
    if not model.exists():
        (folder / "config.json").write_text(json.dumps(TINY_CONFIG))
        run_dsft("init-model", "--config", folder / "config.json", "--tokenizer", ROOT / "test/fixtures/data/tokenizer", "--output", model)
        template.write_text(CHATML)
    rows = [{"prompt": user_turn(f"What is number {i}?"), "answer": f"It is {i * 7 % 10} and {chr(ord('a') + i)}."} for i in range(8)]
    return Case(title, model, template, rows, rewards, {"num_generations": 8, "max_completion_length": 12},
                {"max_steps": num_updates, "per_device_train_batch_size": 32, "learning_rate": learning_rate})


def short(folder):
    rewards = [{"name": "length", "unit": "characters", "max": 1, "ramp": 50}, {"name": "unique_characters", "weight": 0.25}]
    return tiny_case("two layers, length", rewards, 25, 1e-2, folder)


def similar(folder):
    return tiny_case("two layers, similarity", [{"name": "similarity"}], 100, 3e-3, folder)


def smollm2(_):
    """The rule, LoRA and learning rate of the recipe that ships; fewer and shorter prompts, smaller and fewer updates, so that a run takes minutes."""
    import yaml
    recipe = yaml.safe_load((ROOT / "recipes/grpo/smollm2_135m_short_answers.yaml").read_text())
    rows = [{"prompt": f"<|im_start|>user\nWhat is the capital of {country}?<|im_end|>\n<|im_start|>assistant\n"} for country in COUNTRIES]
    grpo = {name: recipe["grpo"][name] for name in ("num_generations", "max_completion_length")}
    training = {"max_steps": 15, "per_device_train_batch_size": 8, "learning_rate": recipe["training"]["learning_rate"]}
    return Case("SmolLM2-135M, length", STARTER_MODEL, None, rows, recipe["grpo"]["rewards"], grpo, training, recipe["lora"])


CASES = {"short": short, "similar": similar, "smollm2": smollm2}
QUICK_CASES = ["short", "similar"]


@dataclass
class Run:
    """What a run gave: reward and seconds of each update, and its completions."""
    rewards: list
    seconds: list
    completions: list


def run_dsft_side(case, rows, seed, folder):
    program = {"command": f"python3 {PARTS / 'rules.py'} '{json.dumps(case.rewards)}'", "name": ADDED_NAME, "weight": 0, "workers": 1}
    data = {"train": [str(rows)]} | ({"chat_template": str(case.chat_template)} if case.chat_template else {})
    recipe = {"recipe": "grpo", "output_dir": str(folder / "run"), "seed": seed, "device": "cpu", "model": {"path": str(case.model), "dtype": "fp32"},
              "data": data, "grpo": {**GRPO, **case.grpo, "rewards": case.rewards + [program]}, "training": {**TRAINING, **case.training}}
    if case.lora:
        recipe["lora"] = case.lora
    (folder / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    run_dsft("launch", "--step-timeout", PATIENCE_S, folder / "recipe.yaml")


def read_dsft_side(folder):
    logs = read_rows(folder / "run" / "metrics.jsonl")
    return Run([log["reward"] for log in logs], [log["step_time"] for log in logs], read_rows(folder / "run" / "completions.jsonl"))


def run_trl_side(case, rows, seed, folder):
    job = {"model": str(case.model), "chat_template": str(case.chat_template or ""), "rows": str(rows), "rewards": case.rewards, "lora": case.lora,
           "seed": seed, "grpo": {**GRPO, **case.grpo}, "training": {**TRAINING, **case.training}, "output_dir": str(folder / "run"),
           "result": str(folder / "result.json")}
    (folder / "job.json").write_text(json.dumps(job))
    result = subprocess.run([sys.executable, "-W", "ignore", PARTS / "trl_run.py", folder / "job.json"], capture_output=True, text=True,
                            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    if result.returncode != 0:
        sys.exit(f"TRL's run ended with {result.returncode}:\n{result.stderr[-3000:]}")


def read_trl_side(folder):
    return Run(**json.loads((folder / "result.json").read_text()))


SIDES = {"dsft": (run_dsft_side, read_dsft_side), "TRL": (run_trl_side, read_trl_side)}


def read_runs(folder):
    """Of each side, by seed."""
    return {side: [read(own) for own in sorted(folder.glob(f"{side}-*"))] for side, (_, read) in SIDES.items()}


def judged_by_dsft(rewards, completions, folder):
    """What dsft's built-in functions give for completions of TRL's runs: a list of values for each."""
    asked, answered = folder / "asked.jsonl", folder / "answered.jsonl"
    write_rows(asked, [{"rewards": rewards}] + completions)
    subprocess.run([os.environ.get("DSFT_TEST_REWARDS", ROOT / "build/bin/test_rewards"), "[reward_requests]"], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "DSFT_REWARD_REQUESTS": str(asked), "DSFT_REWARD_ANSWERS": str(answered)})
    return read_rows(answered)


def largest_difference(case, runs, folder):
    """Of the two sides' rules on all completions; and how many these are."""
    names = [entry.get("label", entry["name"]) for entry in case.rewards]
    differences = [abs(weighted_sum(case.rewards, [sample["rewards"][name] for name in names]) - sample["rewards"][ADDED_NAME])
                   for run in runs["dsft"] for sample in run.completions]
    completions = [sample for run in runs["TRL"] for sample in run.completions]
    for sample, values in zip(completions, judged_by_dsft(case.rewards, completions, folder), strict=True):
        differences += [abs(a - b) for a, b in zip(values, sample["values"], strict=True)]
    return max(differences), sum(len(run.completions) for side in SIDES for run in runs[side])


def run_case(name, case, num_seeds, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rows = folder / "rows.jsonl"
    write_rows(rows, case.rows)
    for seed in range(1, num_seeds + 1):
        for side, (run, read) in SIDES.items():
            own = folder / f"{side}-{seed:02}"
            own.mkdir()
            run(case, rows, seed, own)
            last = read(own)
            print(f"{name}, {side}, seed {seed}: reward {last.rewards[0]:.3f} -> {statistics.mean(last.rewards[-case.num_last():]):.3f}, "
                  f"{statistics.median(last.seconds):.3f} s an update", file=sys.stderr, flush=True)


def compare(comparisons, name, case, folder):
    runs = read_runs(folder)
    ends = {side: [statistics.mean(run.rewards[-case.num_last():]) for run in runs[side]] for side in SIDES}
    num_seeds = len(ends["TRL"])
    means = {side: statistics.mean(ends[side]) for side in SIDES}
    deviations = {side: statistics.stdev(ends[side]) if num_seeds > 1 else math.inf for side in SIDES}
    firsts = {side: statistics.mean(run.rewards[0] for run in runs[side]) for side in SIDES}
    shown = {side: f"{firsts[side]:.3f} -> {means[side]:.3f}" + (f" +- {deviations[side]:.3f}" if num_seeds > 1 else "") for side in SIDES}
    bound = means["TRL"] - deviations["TRL"]
    comparisons.add(f"{name}: reward, first and last {case.num_last()} of {case.training['max_steps']} updates, seeds: {num_seeds}", shown["dsft"],
                    shown["TRL"], f"{bound:.3f} at least" if num_seeds > 1 else "-", means["dsft"] >= bound)
    seconds = {side: statistics.median(second for run in runs[side] for second in run.seconds) for side in SIDES}
    comparisons.add(f"{name}: seconds an update, median", f"{seconds['dsft']:.3f}", f"{seconds['TRL']:.3f}", "-", True)
    difference, num_completions = largest_difference(case, runs, folder)
    comparisons.add(f"{name}: rules on {num_completions} completions", f"differ by {difference:.1e}", "Python", "1e-12", difference <= 1e-12)


def draw_cases(path, work):
    """Of all cases that `work` has runs of."""
    panels = []
    for name in CASES:
        if (work / name).exists():
            runs = read_runs(work / name)
            panels.append((CASES[name](work).title, {side: [run.rewards for run in runs[side]] for side in SIDES}))
    draw(path, panels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=QUICK_CASES)
    parser.add_argument("--seeds", type=int, default=8, help="runs of each side (8)")
    parser.add_argument("--plot", type=Path, help="draw the curves of all cases in the work folder into this SVG file")
    parser.add_argument("--work", type=Path, help="keep recipes, metrics and completions in this folder; a case that is run again begins anew")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    comparisons = Comparisons("GRPO beside TRL")
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.work or Path(temporary)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        for name in arguments.cases:
            case = CASES[name](work)
            run_case(name, case, arguments.seeds, work / name)
            compare(comparisons, name, case, work / name)
        if arguments.plot:
            draw_cases(arguments.plot, work)
    comparisons.finish()


if __name__ == "__main__":
    main()
