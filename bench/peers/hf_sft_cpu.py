#!/usr/bin/env python3
"""The peer of bench/sft_cpu.sh: transformers + PEFT, LoRA fine-tuning of a checkpoint on the CPU.

A plain loop as a Trainer runs it: the model loaded in --dtype, SDPA attention, PEFT's LoRA (fp32 A and B), AdamW (fused), clipping at 1.0.
The rows are token ids with labels, written by make_rows.py; a padded batch is what transformers' collator makes. Prints one JSON line.

    hf_sft_cpu.py --model models/SmolLM2-135M-Instruct --rows rows.jsonl --batch 4 --dtype fp32 [--steps 6] [--warmup 2]
"""
import argparse
import json
import resource
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

IGNORED = -100
PAD_ID = 2
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def read_batches(path, batch_size):
    """Padded batches (ids, labels, attention mask) in the order of the file."""
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    for begin in range(0, len(rows) - batch_size + 1, batch_size):
        chosen = rows[begin:begin + batch_size]
        length = max(len(row["token_ids"]) for row in chosen)
        ids = torch.full((batch_size, length), PAD_ID)
        labels = torch.full((batch_size, length), IGNORED)
        mask = torch.zeros((batch_size, length), dtype=torch.long)
        for index, row in enumerate(chosen):
            size = len(row["token_ids"])
            ids[index, :size] = torch.tensor(row["token_ids"])
            labels[index, :size] = torch.tensor(row["labels"])
            mask[index, :size] = 1
        yield ids, labels, mask


def prepare(path, dtype, rank, recompute):
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    if recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=ALL_LINEAR, task_type="CAUSAL_LM"))
    model.train()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return model, torch.optim.AdamW(trainable, lr=2e-4, fused=True)


def train_step(model, optimizer, ids, labels, mask):
    loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def measure(args):
    torch.manual_seed(0)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[args.dtype]
    model, optimizer = prepare(args.model, dtype, args.rank, args.recompute)
    seconds, tokens, losses = [], [], []
    for ids, labels, mask in list(read_batches(args.rows, args.batch))[:args.warmup + args.steps]:
        begin = time.perf_counter()
        losses.append(train_step(model, optimizer, ids, labels, mask))
        seconds.append(time.perf_counter() - begin)
        tokens.append(int(mask.sum()))
    seconds, tokens = seconds[args.warmup:], tokens[args.warmup:]
    return {
        "peer": "transformers+peft", "dtype": args.dtype, "batch": args.batch, "steps": len(seconds), "threads": torch.get_num_threads(),
        "s_per_step": round(sum(seconds) / len(seconds), 3), "tokens_per_s": round(sum(tokens) / sum(seconds), 1),
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2), "loss": round(losses[-1], 4),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", required=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--recompute", action="store_true", help="gradient checkpointing of every layer")
    print(json.dumps(measure(parser.parse_args())), flush=True)
