#!/usr/bin/env python3
"""Loss of 200 updates of `dsft launch` on a GPU against transformers' Trainer with PEFT, and whether training.full_determinism repeats bit for bit.

SmolLM2-135M in bf16 learns to call functions by LoRA in fp32. Both sides start from one adapter, made by PEFT with random B, and see the same rows in
the same order. Where models/SmolLM2-135M-Instruct has no weights, random ones take their place.

In bf16 rounding decides how a run goes on, so the bound is what the peer keeps against itself: it trains again with eager instead of SDPA attention,
and under bf16 autocast, which makes LoRA's products in bf16 as dsft does (without it PEFT makes them in fp32). dsft may be SLACK times as far from the
peer as the farther of these two.
"""
import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from comparison import ROOT, SKIPPED, STARTER_MODEL, Comparisons, read_rows, run_dsft, write_rows
from peft import PeftModel
from safetensors.torch import load_file
from training import Setting, lora_section, start_adapter, train_dsft, train_peer
from transformers import AutoModelForCausalLM

RANK = 16
LEARNING_RATE = 1e-3
WINDOW = 20  # losses of a running mean
SLACK = 1.5
PEERS = {  # attention and further training arguments; the first is what dsft is compared with
    "sdpa": ("sdpa", {}),
    "eager": ("eager", {}),
    "autocast": ("sdpa", {"bf16": True}),
}


def model_folder(folder):
    """The starter model's; where it has no weights, one with random weights made in `folder`."""
    if (STARTER_MODEL / "model.safetensors").exists():
        return STARTER_MODEL
    run_dsft("init-model", "--config", STARTER_MODEL / "config.json", "--tokenizer", STARTER_MODEL, "--output", folder)
    return folder


def make_rows(folder, count):
    """Conversations with function calls, as token ids with the assistant's turns supervised."""
    maker = ROOT / "scripts" / "make_function_calling_data.py"
    command = [sys.executable, maker, "--output", folder, "--train-rows", str(count), "--held-out-rows", "1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    recipe = ROOT / "recipes" / "sft" / "smollm2_135m_function_calling.yaml"
    rows = json.loads(run_dsft("preview", recipe, f"data.train=[{folder / 'train.jsonl'}]", "data.eval=[]", "--rows", count, "--json"))
    return [{"token_ids": row["token_ids"], "labels": row["labels"]} for row in rows]


def load_model(path, attention="sdpa"):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, attn_implementation=attention)


def train_variant(name, model_path, folder, setting):
    """The losses of one of PEERS; leaves its adapter in folder / name."""
    attention, arguments = PEERS[name]
    model = PeftModel.from_pretrained(load_model(model_path, attention), folder / "start", is_trainable=True)
    losses, _ = train_peer(model, read_rows(folder / "rows.jsonl"), setting, folder / name, **arguments)
    model.save_pretrained(folder / name)
    return losses


def train_peers(model_path, folder, setting):
    """The losses of PEERS by name, each from a process of its own; on a GPU at once, for there the host bounds them."""
    at_once = len(PEERS) if setting.device == "cuda" else 1
    with ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        runs = {name: pool.submit(train_variant, name, model_path, folder, setting) for name in PEERS}
        return {name: run.result() for name, run in runs.items()}


def adapter_change(start, end):
    """What training added to an adapter, as one vector."""
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (start, end))
    assert before.keys() == after.keys()
    return torch.cat([(after[name].double() - before[name].double()).flatten() for name in sorted(before)])


def running_means(losses):
    return torch.tensor(losses, dtype=torch.float64).unfold(0, max(1, min(WINDOW, len(losses) // 2)), 1).mean(1)


def distances(run, reference):
    """How far apart two runs are, each given as its losses and its adapter's change."""
    (losses, change), (other_losses, other_change) = run, reference
    of_steps = (torch.tensor(losses) - torch.tensor(other_losses)).abs()
    return {
        "loss, mean difference": of_steps.mean().item(),
        "loss, largest difference": of_steps.max().item(),
        "running mean of losses, largest difference": (running_means(losses) - running_means(other_losses)).abs().max().item(),
        "adapter's change, relative distance": ((change - other_change).norm() / other_change.norm()).item(),
        "adapter's change, 1 - cosine": 1 - torch.cosine_similarity(change, other_change, dim=0).item(),
    }


def print_curve(name, losses):
    means = running_means(losses)
    print(f"{name}, running mean of losses:", *(f"{mean:.3f}" for mean in means[::max(1, len(means) // 10)]), flush=True)


def compare_curves(comparisons, model_path, folder, setting):
    start = folder / "start"
    dsft_losses, _ = train_dsft(model_path, folder / "rows.jsonl", setting, folder, lora_section(start, RANK))
    print_curve("dsft", dsft_losses)
    dsft = dsft_losses, adapter_change(start, folder / "dsft")
    peers = {name: (losses, adapter_change(start, folder / name)) for name, losses in train_peers(model_path, folder, setting).items()}
    for name, (losses, _) in peers.items():
        print_curve(f"peer ({name})", losses)

    name, *other_names = PEERS
    reference = peers[name]
    itself = {other: distances(peers[other], reference) for other in other_names}
    print(f"dsft and the peer's own variants ({', '.join(other_names)}) against the peer ({name}); the bound is {SLACK} times the farther variant.")
    for case, distance in distances(dsft, reference).items():
        bound = SLACK * max(variant[case] for variant in itself.values())
        variants = ", ".join(f"{other} {variant[case]:.2e}" for other, variant in itself.items())
        comparisons.add(case, f"{distance:.2e}", variants, f"{bound:.2e}", distance <= bound)
    if setting.num_steps >= 100:  # fewer cannot move it far
        first, last = dsft_losses[0], running_means(dsft_losses)[-1]
        peer_first, peer_last = reference[0][0], running_means(reference[0])[-1]
        comparisons.add("loss, from the first to the last running mean", f"{first:.3f} to {last:.3f}", f"{peer_first:.3f} to {peer_last:.3f}", "halves",
                        last < first / 2)


def repeat_run(comparisons, model_path, folder, setting):
    adapters = []
    for name in ("once", "again"):
        (folder / name).mkdir()
        lora = lora_section(folder / "start", RANK)
        train_dsft(model_path, folder / "rows.jsonl", setting, folder / name, lora, "training.full_determinism=true")
        adapters.append((folder / name / "dsft" / "adapter_model.safetensors").read_bytes())
    is_same = adapters[0] == adapters[1]
    comparisons.add(f"full_determinism, {setting.num_steps} updates twice: adapter_model.safetensors", "same bytes" if is_same else "other bytes", "-",
                    "same bytes", is_same)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--steps", type=int, default=200, help="updates of the curves (default: 200)")
    parser.add_argument("--rows", type=int, default=16, help="rows of an update, about 170 tokens each (default: 16)")
    arguments = parser.parse_args()
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # both sides would take all GPUs
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("torch finds no GPU; scripts/parity/gpu_training.py --device cpu --steps 5 --rows 2 tries it on the CPU")
        sys.exit(SKIPPED)
    setting = Setting(LEARNING_RATE, arguments.steps, arguments.rows, accumulation=1, device=arguments.device, dtype="bf16")
    comparisons = Comparisons(f"training in bf16 ({setting.device}), {setting.num_steps} updates")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model_path = model_folder(folder / "model")
        write_rows(folder / "rows.jsonl", make_rows(folder / "data", setting.num_rows()))
        start_adapter(load_model(model_path), folder / "start", RANK)
        compare_curves(comparisons, model_path, folder, setting)
        repeat_run(comparisons, model_path, folder, replace(setting, num_steps=min(50, setting.num_steps)))
    comparisons.finish()


if __name__ == "__main__":
    main()
