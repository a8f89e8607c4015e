#!/usr/bin/env python3
"""Runs in which a random rank is killed or stopped at a random moment: scripts/random_faults.py [--runs 50] [--ranks 2] [--seed 1]

Each run of a tiny model under `dsft launch` has to end with code 6 within 10 s of a kill and 15 s of a stop (0 where the fault came too late), without a process that is
left over; `training.resume_from_checkpoint=true` then has to give the losses and the weights of a run that nothing befell, to the last bit. Ends with 1 where any does not.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
DSFT = ROOT / "build/bin/dsft"
MARK = "DSFT_RANDOM_FAULTS_RUN"
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 1024, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": True,
    "initializer_range": 0.3, "rope_theta": 10000.0, "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2,
}
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TRAINING = "{max_steps: STEPS, per_device_train_batch_size: 1, learning_rate: 1.0e-3, save_steps: 10, logging_steps: 1, report_to: [none]}"


def make_job(folder, steps):
    (folder / "config.json").write_text(json.dumps(CONFIG))
    subprocess.run([DSFT, "init-model", "--config", folder / "config.json", "--tokenizer", ROOT / "test/fixtures/data/tokenizer", "--output", folder / "model"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = [{"messages": [{"role": "user", "content": f"What is number {i}?"}, {"role": "assistant", "content": f"It is {i * 7 % 10} and {chr(97 + i)}."}]} for i in range(12)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "chatml.jinja").write_text(TEMPLATE)
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"recipe: sft\nmodel: {{path: {folder}/model, dtype: fp32}}\nlora: {{r: 8, lora_alpha: 16, lora_dropout: 0.05}}\n"
                      f"data: {{train: [{folder}/train.jsonl], chat_template: {folder}/chatml.jinja, packing: false, max_length: 256}}\n"
                      f"training: {TRAINING.replace('STEPS', str(steps))}\noutput_dir: {folder}/run\n")
    return recipe


def start(recipe, ranks, folder, mark, *settings):
    environment = dict(os.environ, DSFT_CACHE=str(folder / "cache"), OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", **{MARK: mark})
    return subprocess.Popen([DSFT, "launch", "--num-procs", str(ranks), recipe, *settings], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def processes_of(mark, rank=None):
    """The processes of a run, by the environment that they were started with; zombies have none."""
    wanted = {f"{MARK}={mark}"} | ({f"OMPI_COMM_WORLD_RANK={rank}"} if rank is not None else set())
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and wanted <= set(pathlib.Path("/proc", entry, "environ").read_text(errors="replace").split("\0")):
                found.append(int(entry))
        except OSError:
            pass
    return found


def curve(output_dir):
    lines = [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def run_once(number, recipe, folder, arguments, duration, expected, choose):
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    how = choose.choice(["kill", "stop"])
    rank, delay = choose.randrange(arguments.ranks), choose.uniform(0, duration)
    what = f"run {number}: {how} rank {rank} after {delay:.2f} s"
    launcher = start(recipe, arguments.ranks, folder, str(number))
    time.sleep(delay)
    victims = processes_of(str(number), rank)
    at = time.monotonic()
    for victim in victims[:1]:
        os.kill(victim, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
    try:
        output, _ = launcher.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        launcher.kill()
        return f"{what}: has not ended within 60 s"
    seconds = time.monotonic() - at
    last = output.strip().splitlines()[-1] if output.strip() else ""
    left = processes_of(str(number))
    if left:
        return f"{what}: processes are left: {left}"
    limit = 10 if how == "kill" else 15
    if victims and launcher.returncode not in (0, 6):
        return f"{what}: ended with {launcher.returncode}: {last}"
    if launcher.returncode == 6 and seconds > limit:
        return f"{what}: took {seconds:.1f} s, more than {limit}: {last}"
    if launcher.returncode == 6 and f"rank {rank} " not in last:
        return f"{what}: the last line does not name it: {last}"
    continued = start(recipe, arguments.ranks, folder, str(number), "training.resume_from_checkpoint=true")
    output, _ = continued.communicate(timeout=120)
    if continued.returncode != 0:
        return f"{what}: going on ended with {continued.returncode}: {output[-500:]}"
    if curve(run) != expected[0] or (run / "adapter_model.safetensors").read_bytes() != expected[1]:
        return f"{what}: going on gave another curve"
    print(f"{what}: ended with {launcher.returncode} in {seconds:.1f} s ({last.removeprefix('dsft launch: ')}), went on to the same weights", flush=True)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    choose = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        recipe = make_job(folder, arguments.steps)
        begin = time.monotonic()
        whole = start(recipe, arguments.ranks, folder, "whole")
        output, _ = whole.communicate(timeout=300)
        duration = time.monotonic() - begin
        if whole.returncode != 0:
            sys.exit(f"the run without a fault ended with {whole.returncode}: {output[-1000:]}")
        expected = (curve(folder / "run"), (folder / "run/adapter_model.safetensors").read_bytes())
        faults = [run_once(i, recipe, folder, arguments, duration, expected, choose) for i in range(arguments.runs)]
        faults = [fault for fault in faults if fault]
    print(*faults, sep="\n", file=sys.stderr)
    print(f"{arguments.runs - len(faults)} of {arguments.runs} runs ended in time and went on as if nothing had happened")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
