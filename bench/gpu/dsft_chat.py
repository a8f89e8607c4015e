"""dsft's speed over the chats of chat_rows.py, packed: a whole `dsft launch`, as trl_sft.py has a whole SFTTrainer.

Writes rows, a checkpoint of random weights and a recipe (LoRA r=16 on q, k, v, o, bf16, bins of 2048, every token a
label) into a temporary folder and reads metrics.jsonl: tokens of the updates after the warm-up by their time, which
includes data loading, the optimizer and the logs. Needs the tokenizer's files for the checkpoint's folder, no network.
Prints one JSON line with the names of trl_sft.py.

    python dsft_chat.py --dsft build/bin/dsft --config recipes/configs/qwen3_0.6b.json --tokenizer models/SmolLM2-135M-Instruct
    python dsft_chat.py --tiny ...              # two-layer model, few steps, also on a CPU
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

from chat_rows import CUT, NUM_IDS, ROWS_PER_BIN, chats

TINY = dict(vocab_size=NUM_IDS, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=16)

RECIPE = """\
recipe: sft
output_dir: {folder}/run
model: {{path: {folder}/model, dtype: bf16}}
lora: {{r: 16, lora_alpha: 32, target_modules: [q_proj, k_proj, v_proj, o_proj], task_type: CAUSAL_LM}}
data: {{train: [{folder}/rows.jsonl], max_length: {cut}, packing: true, loss_on: all}}
training: {{max_steps: {steps}, per_device_train_batch_size: {batch}, learning_rate: 1.0e-4, gradient_checkpointing: {recompute},
  logging_steps: 1, save_strategy: "no", report_to: none}}
"""


def write_inputs(folder, args):
    config = json.loads(pathlib.Path(args.config).read_text())
    if args.tiny:
        config |= TINY
    (folder / "config.json").write_text(json.dumps(config))
    num_steps = args.warmup + args.steps
    with open(folder / "rows.jsonl", "w") as rows:
        for ids in chats(num_steps * args.batch * ROWS_PER_BIN):
            rows.write(json.dumps({"token_ids": ids}) + "\n")
    (folder / "recipe.yaml").write_text(
        RECIPE.format(folder=folder, cut=CUT, steps=num_steps, batch=args.batch, recompute=args.recompute))


def step_sizes(metrics):
    """(tokens, seconds) of each update, and the peak memory in GiB."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    before = [0] + [line["num_tokens"] for line in lines]
    sizes = [line["num_tokens"] - start for line, start in zip(lines, before)]
    return [(size, size / line["tokens_per_second"]) for line, size in zip(lines, sizes)], lines[-1]["peak_memory_gib"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsft", default="build/bin/dsft")
    parser.add_argument("--config", default="recipes/configs/qwen3_0.6b.json")
    parser.add_argument("--tokenizer", default="models/SmolLM2-135M-Instruct")
    parser.add_argument("--batch", type=int, default=8, help="bins of 2048 tokens per step")
    parser.add_argument("--recompute", default="false", choices=["false", "selective", "true"])
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tiny", action="store_true", help="two-layer model, few steps, for a dry run")
    args = parser.parse_args()
    if args.tiny:
        args.batch, args.warmup, args.steps = 2, 1, 2
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_inputs(folder, args)
        subprocess.run([args.dsft, "init-model", "--config", folder / "config.json", "--tokenizer", args.tokenizer,
                        "--output", folder / "model"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([args.dsft, "launch", folder / "recipe.yaml"], check=True, stdout=subprocess.DEVNULL)
        sizes, peak_gib = step_sizes(folder / "run/metrics.jsonl")
    measured = sizes[args.warmup:]
    tokens, seconds = (sum(part) for part in zip(*measured))
    print(json.dumps(dict(
        kind="chat", layout="packed", batch=args.batch, recompute=args.recompute,
        useful_tokens_per_s=round(tokens / seconds), useful_tokens_per_step=round(tokens / len(measured)),
        ms_per_step=round(seconds * 1e3 / len(measured), 1),
        median_ms=round(statistics.median(time for _, time in measured) * 1e3, 1), steps=len(measured),
        peak_gib=round(peak_gib, 2))), flush=True)
