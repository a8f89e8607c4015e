"""dsft's seconds per update of GRPO, split into sampling, waiting for rewards and the rest: the work of trl_grpo.py.

A whole `dsft launch` on random weights: LoRA r=32 on all linear layers, 64 prompts x 5 completions a step, prompts of 103 tokens and completions of 219 at
most (a random model next to never ends one earlier), beta 0, one update a round, a rule as reward, bf16, no gradient checkpointing unless asked for.
Reads metrics.jsonl; seconds are those of a round with all its updates. Needs the tokenizer's files for the checkpoint's folder, no network. Prints one JSON line with the names of trl_grpo.py.

    python dsft_grpo.py --dsft build/bin/dsft
    python dsft_grpo.py --tiny          # two-layer model, few tokens, also on a CPU
    python dsft_grpo.py --ranks 2 --zero-stage 3
"""
import argparse
import json
import pathlib
import random
import shutil
import statistics
import subprocess
import tempfile

GENERATIONS = 5
TINY = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)

RECIPE = """\
recipe: grpo
output_dir: {folder}/run
model: {{path: {folder}/model, dtype: bf16}}
{lora}data: {{train: [{folder}/rows.jsonl]}}
zero: {{stage: {zero_stage}}}
grpo:
  num_generations: 5
  max_completion_length: {completion_length}
  rewards: [{{name: unique_characters}}]
  num_iterations: {iterations}
  beta: {beta}
training: {{max_steps: {steps}, per_device_train_batch_size: {micro_batch}, gradient_accumulation_steps: {accumulation}, learning_rate: 1.0e-6,
  gradient_checkpointing: {recompute}, full_determinism: {full_determinism}, logging_steps: 1, save_strategy: "no", report_to: none}}
"""
LORA = "lora: {r: 32, lora_alpha: 64, target_modules: all-linear, task_type: CAUSAL_LM}\n"


def words(tokenizer):
    """Words that are one token behind a space."""
    vocabulary = json.loads((tokenizer / "tokenizer.json").read_text())["model"]["vocab"]
    return sorted(token[1:] for token in vocabulary if token[0] == "\u0120" and token[1:].isascii() and token[1:].isalpha() and len(token) > 3)


def write_inputs(folder, args):
    config = json.loads(pathlib.Path(args.config).read_text())
    if args.tiny:
        config |= TINY
    (folder / "config.json").write_text(json.dumps(config))
    draw = random.Random(0)
    vocabulary = words(pathlib.Path(args.tokenizer))
    with open(folder / "rows.jsonl", "w") as rows:
        for _ in range(args.prompts * (args.steps + args.warmup)):
            rows.write(json.dumps({"prompt": " " + " ".join(draw.choices(vocabulary, k=args.prompt_length))}) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE.format(
        folder=folder, lora="" if args.full else LORA, zero_stage=args.zero_stage, completion_length=args.completion_length,
        iterations=args.iterations, beta=args.beta, steps=args.steps + args.warmup, micro_batch=args.micro_batch,
        accumulation=args.prompts * GENERATIONS // args.micro_batch // args.ranks, recompute=str(args.recompute).lower(), full_determinism=str(args.full_determinism).lower()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsft", default="build/bin/dsft")
    parser.add_argument("--config", default="bench/gpu/qwen2.5_1.5b.json")
    parser.add_argument("--tokenizer", default="models/SmolLM2-135M-Instruct")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--prompt-length", type=int, default=103)
    parser.add_argument("--completion-length", type=int, default=219)
    parser.add_argument("--micro-batch", type=int, default=32, help="completions per forward and backward")
    parser.add_argument("--recompute", action="store_true", help="gradient checkpointing")
    parser.add_argument("--full", action="store_true", help="all weights in place of LoRA")
    parser.add_argument("--full-determinism", action="store_true", help="sampler and trainer agree to the bit")
    parser.add_argument("--iterations", type=int, default=1, help="updates by each round: with more than one the old policy's log-probabilities are computed")
    parser.add_argument("--beta", type=float, default=0.0, help="of the divergence from the reference, whose log-probabilities are computed")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--zero-stage", type=int, default=0)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for the run's metrics.jsonl and completions.jsonl")
    parser.add_argument("--tiny", action="store_true", help="two-layer model, few tokens, for a dry run")
    args = parser.parse_args()
    if args.tiny:
        args.prompts, args.micro_batch, args.prompt_length, args.completion_length = 2 * args.ranks, 5, 12, 12
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_inputs(folder, args)
        subprocess.run([args.dsft, "init-model", "--config", folder / "config.json", "--tokenizer", args.tokenizer, "--output", folder / "model"],
                       check=True, stdout=subprocess.DEVNULL)
        subprocess.run([args.dsft, "launch", "--num-gpus" if shutil.which("nvidia-smi") else "--num-procs", str(args.ranks), folder / "recipe.yaml"], check=True, stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
        if args.keep:
            args.keep.mkdir(parents=True, exist_ok=True)
            for file in ("metrics.jsonl", "completions.jsonl"):
                shutil.copy(folder / "run" / file, args.keep)
    seconds = [line["step_time"] for line in lines]
    first, measured = seconds[0], lines[args.warmup:]
    # of a round: so many updates
    step = statistics.median(seconds[args.warmup:]) if args.iterations == 1 else sum(seconds[args.warmup:]) / len(seconds[args.warmup:]) * args.iterations
    median = lambda key: statistics.median(line[key] for line in measured)
    sampling, waiting = median("rollout/sampling_seconds"), median("rollout/waiting_for_rewards_seconds")
    scoring = statistics.median(line.get("rollout/scoring_seconds", 0) for line in measured)
    print(json.dumps(dict(
        kind="grpo", ranks=args.ranks, zero_stage=args.zero_stage, prompts=args.prompts, prompt_length=args.prompt_length, micro_batch=args.micro_batch,
        iterations=args.iterations, beta=args.beta, recompute=args.recompute, full=args.full, full_determinism=args.full_determinism, completions=args.prompts * GENERATIONS, mean_completion=round(median("completions/mean_length"), 1),
        seconds_per_step=round(step, 2), generation_s=round(sampling, 2), rewards_s=round(waiting, 2), scoring_s=round(scoring, 2), update_s=round(step - sampling - waiting - scoring, 2),
        generated_tokens_per_s=round(median("rollout/tokens_per_second")), logp_difference_mean=median("sampling/sampling_logp_difference/mean"), logp_difference_max=max(line["sampling/sampling_logp_difference/max"] for line in lines),
        logp_difference_signed=median("sampling/sampling_logp_difference/signed_mean"), first_step_s=round(first, 2), all_steps=[round(s, 2) for s in seconds],
        peak_gib=round(lines[-1]["peak_memory_gib"], 2))), flush=True)
