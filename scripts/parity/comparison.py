"""What the parity scripts of this folder share: one line per comparison, random checkpoints, and calls of dsft.

The convention: a script prints lines "topic | case | dsft | peer | bound | ok" and ends with 1 if one is not ok, or prints a reason and ends with 77
if nothing can be compared here; scripts/parity.sh runs them all and prints one table. The bounds are those of docs (numerics): log-probs 1e-4 absolute, losses 1e-4 and gradient norms 1e-3 relative over 20 steps, fp32.
"""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DSFT = os.environ.get("DSFT", str(ROOT / "build" / "bin" / "dsft"))
STARTER_MODEL = ROOT / "models" / "SmolLM2-135M-Instruct"
FIRST_PLAIN_ID = 17
VOCABULARY = 49152
IGNORED = -100
SKIPPED = 77  # the exit code that says so, as Automake's and Meson's test drivers have it


class Comparisons:
    """Prints comparisons as they are made and remembers whether all hold."""

    def __init__(self, topic):
        self.topic = topic
        self.all_ok = True

    def add(self, case, dsft, peer, bound, is_ok):
        self.all_ok = self.all_ok and bool(is_ok)
        print(f"{self.topic} | {case} | {dsft} | {peer} | {bound} | {'yes' if is_ok else 'NO'}", flush=True)

    def add_error(self, case, error, bound):
        """`error` is the largest difference from the peer."""
        self.add(case, f"differs by {error:.2e}", "reference", f"{bound:g}", error <= bound)

    def finish(self):
        sys.exit(0 if self.all_ok else 1)


def run_dsft(*arguments, device="cpu"):
    """Standard output of a dsft command; ends the script with its message where it fails."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else None
    result = subprocess.run([DSFT, *map(str, arguments)], capture_output=True, text=True, env=environment, cwd=ROOT)
    if result.returncode != 0:
        sys.exit(f"{DSFT} {' '.join(map(str, arguments))} ended with {result.returncode}:\n{result.stderr[-3000:]}")
    return result.stdout


def write_rows(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")


def read_rows(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def random_row(rng, length, num_ignored=0):
    ids = [rng.randrange(FIRST_PLAIN_ID, VOCABULARY) for _ in range(length)]
    return {"token_ids": ids, "labels": [IGNORED] * num_ignored + ids[num_ignored:]}


def random_configs():
    """Small configurations of every family, with what distinguishes their published members."""
    from transformers import LlamaConfig, Qwen2Config, Qwen3Config
    common = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4,
              "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    llama3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 64}
    plain = {"rope_type": "default", "rope_theta": 10000.0}
    return {
        "llama, tied": LlamaConfig(**common, tie_word_embeddings=True, rope_parameters=plain),
        "llama 3 rope, untied, head 32": LlamaConfig(**common, tie_word_embeddings=False, rope_parameters=llama3, head_dim=32),
        "llama, attention bias": LlamaConfig(**common, attention_bias=True, rope_parameters=plain),
        "qwen2": Qwen2Config(**common, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
        "qwen3": Qwen3Config(**common, head_dim=32, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
    }


def save_random_model(config, folder):
    """A random fp32 checkpoint with the starter model's tokenizer; weights spread enough that errors show."""
    import torch
    from transformers import AutoModelForCausalLM
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(STARTER_MODEL / name, folder)
    return model.eval()
