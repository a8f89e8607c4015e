"""dsft's speed on several GPUs of one host: whole `dsft launch` runs, one line for each way of sharding.

Writes a checkpoint of random weights, rows of random tokens that fill the length (every token a label) and a recipe
into a temporary folder, and reads metrics.jsonl: the median update after the warm-up, which includes data loading, the
optimizer and the logs. Prints one JSON line for each case: tokens/s for each GPU, the largest peak, loss and gradient
norm of the last update (equal over all ways but for rounding), and whether all ranks had the same weights bit for bit
at the end (null for one rank).

    python dsft_ranks.py --config bench/gpu/qwen2.5_1.5b.json --batch 4 --gpus 1 2 --lora
    python dsft_ranks.py --config bench/gpu/qwen2.5_1.5b.json --batch 4 --gpus 2 --zero '{stage: 1}' '{stage: 2}'
    python dsft_ranks.py --tiny --cpu ...       # two-layer model, few steps, CPU ranks
"""
import argparse
import json
import pathlib
import random
import statistics
import subprocess
import tempfile
import time

NUM_IDS = 49152  # of the tokenizer whose files stand beside the random weights
TINY = dict(vocab_size=NUM_IDS, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2)
LORA = "lora: {r: 16, lora_alpha: 32, target_modules: [q_proj, k_proj, v_proj, o_proj], task_type: CAUSAL_LM}\n"
RECIPE = """\
recipe: sft
output_dir: {folder}/run
model: {{path: {folder}/model, dtype: {dtype}}}
{lora}data: {{train: [{folder}/rows.jsonl], max_length: {length}, packing: false, shuffle: false, loss_on: all}}
training: {{max_steps: {steps}, per_device_train_batch_size: {batch}, learning_rate: 1.0e-5, gradient_checkpointing: {recompute},
  logging_steps: 1, save_strategy: "no", report_to: none}}
zero: {zero}
"""


def write_inputs(folder, args):
    config = json.loads(pathlib.Path(args.config).read_text())
    if args.tiny:
        config |= TINY
    (folder / "config.json").write_text(json.dumps(config))
    rng = random.Random(0)
    with open(folder / "rows.jsonl", "w") as rows:
        for _ in range(args.batch * max(args.gpus) * args.steps):
            rows.write(json.dumps({"token_ids": [rng.randrange(2, NUM_IDS) for _ in range(args.length)]}) + "\n")
    subprocess.run([args.dsft, "init-model", "--config", folder / "config.json", "--tokenizer", args.tokenizer,
                    "--output", folder / "model"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run(folder, args, num_ranks, zero, recompute):
    (folder / "recipe.yaml").write_text(RECIPE.format(
        folder=folder, dtype="fp32" if args.cpu else "bf16", lora=LORA if args.lora else "", length=args.length,
        steps=args.steps, batch=args.batch, recompute=recompute, zero=zero))
    subprocess.run(["rm", "-rf", folder / "run"], check=True)
    started = time.perf_counter()
    ranks = ["--num-procs", str(num_ranks), folder / "recipe.yaml", "device=cpu"] if args.cpu else \
        ["--num-gpus", str(num_ranks), folder / "recipe.yaml"]
    done = subprocess.run([args.dsft, "launch", *ranks], capture_output=True, text=True)
    result = dict(kind="ranks", config=pathlib.Path(args.config).stem, gpus=num_ranks, zero=zero, lora=args.lora,
                  batch=args.batch, length=args.length, recompute=recompute)
    if done.returncode != 0:
        print(json.dumps(result | dict(exit_code=done.returncode, error=done.stderr[-600:])), flush=True)
        return
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "loss" in line]
    rates = [line["tokens_per_second"] for line in lines[args.warmup:]]
    equal = "are equal bit for bit" in done.stdout + done.stderr
    print(json.dumps(result | dict(
        tokens_per_s_per_gpu=round(statistics.median(rates) / num_ranks),
        peak_gib=round(max(line["peak_memory_gib"] for line in lines), 2), loss=lines[-1]["loss"],
        grad_norm=lines[-1]["grad_norm"], ranks_equal=equal if num_ranks > 1 else None,
        seconds=round(time.perf_counter() - started, 1))), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsft", default="build/bin/dsft")
    parser.add_argument("--config", default="bench/gpu/qwen2.5_1.5b.json")
    parser.add_argument("--tokenizer", default="models/SmolLM2-135M-Instruct")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--zero", nargs="+", default=["{stage: 0}"], help="values of the recipe's zero section")
    parser.add_argument("--batch", type=int, default=4, help="rows for each GPU and step")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--recompute", nargs="+", default=["false"], choices=["false", "selective", "true"])
    parser.add_argument("--warmup", type=int, default=4)
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--tiny", action="store_true", help="two-layer model, few steps")
    parser.add_argument("--cpu", action="store_true", help="CPU ranks")
    args = parser.parse_args()
    if args.tiny:
        args.batch, args.warmup, args.steps, args.length = 2, 1, 3, 64
    with tempfile.TemporaryDirectory() as name:
        write_inputs(pathlib.Path(name), args)
        for num_ranks in args.gpus:
            for zero in args.zero:
                for recompute in args.recompute:
                    run(pathlib.Path(name), args, num_ranks, zero, recompute)
