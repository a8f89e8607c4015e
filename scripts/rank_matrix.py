#!/usr/bin/env python3
"""ZeRO's stages and offloads on several CPU ranks beside one process: scripts/rank_matrix.py [--parts tiny smollm2 resume memory memory_smollm2]

tiny      a random two-layer model under `dsft launch`: stages 0 - 3 with and without each offload on 1, 2 and 4 ranks, LoRA (without dropout and with 0.05) and all
          weights, one micro-batch an update and two. Each of 20 updates has to have the loss and the gradient norm of one process at stage 0 within 1e-5 of them
          (|value / of one process - 1|), its learning rate and its tokens exactly, and at the end all ranks the same weights bit for bit.
smollm2   the main rows of that on SmolLM2-135M-Instruct (skipped where models/ has none).
resume    5 updates each on 4, 2, 1 and 3 ranks, each going on from the checkpoint of the one before: the same rows and, within the same bound, the curve of one process.
memory    bytes of tensors by columns, as build/bin/memory_columns counts them in the trainer's place, within 10 % of `dsft estimate-memory`, or within 2 % of the
          total; memory_smollm2: the same of SmolLM2-135M. Offloads are not compared there.

A placement that this dsft refuses as not built is "refused", counted apart and not passed. Ends with 1 where any cell is out. Tables are Markdown.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
DSFT = ROOT / "build/bin/dsft"
COLUMNS = ROOT / "build/bin/memory_columns"
SMOLLM2 = ROOT / "models/SmolLM2-135M-Instruct"
BOUND, MEMORY_BOUND, NEGLIGIBLE = 1e-5, 0.1, 0.02
STEPS = 20
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 1024, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": True,
    "initializer_range": 0.1, "rope_theta": 10000.0, "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2,
}
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
LORA = "lora: {{r: 8, lora_alpha: 16, lora_dropout: {dropout}}}\n"
# what is trained; lora_dropout is dsft's only dropout
KINDS = {"LoRA": LORA.format(dropout=0), "LoRA, dropout 0.05": LORA.format(dropout=0.05), "all weights": ""}
# at ten times these, rates for a model that has learned nothing yet, the rounding of sums in another order grows to 2e-5 within 20 updates
SMOLLM2_RATES = {"LoRA, dropout 0.05": 1e-4, "all weights": 1e-5}
OPTIMIZER, PARAMETERS = "offload_optimizer: {device: cpu}", "offload_param: {device: cpu}"
PLACEMENTS = [["stage: 0"], ["stage: 1"], ["stage: 1", OPTIMIZER], ["stage: 2"], ["stage: 2", OPTIMIZER], ["stage: 3"], ["stage: 3", OPTIMIZER],
              ["stage: 3", PARAMETERS], ["stage: 3", OPTIMIZER, PARAMETERS]]
MAIN_PLACEMENTS = [["stage: 1"], ["stage: 2", OPTIMIZER], ["stage: 3"], ["stage: 3", OPTIMIZER, PARAMETERS]]
EQUAL_RANKS = re.compile(r"ranks: the trained weights of all (\d+) are equal bit for bit")
NOT_BUILT = re.compile(r"zero\.\S+: .*not built yet.*")


class Cells:
    """What was compared; counts those that are out."""

    def __init__(self):
        self.num_passed = self.num_out = self.num_refused = 0
        self.refusals = set()

    def passed(self, worst):
        self.num_passed += 1
        return f"{worst:.0e}"

    def out(self, where, why):
        self.num_out += 1
        print(f"{where}: {why}", file=sys.stderr, flush=True)
        return "OUT"

    def refused(self, message):
        self.num_refused += 1
        self.refusals.add(message)
        return "refused"


class Refused(Exception):
    pass


class Failed(Exception):
    pass


def placement_name(placement):
    return ", ".join(part.split(": {")[0] for part in placement).replace("stage: ", "stage ")


def table(title, header, rows):
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    print(f"\n{title}\n")
    for row in [header, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths)) + " |", flush=True)
    print()


class Job:
    """A model, rows and runs of it in a folder."""

    def __init__(self, folder, model=None, num_rows=28, max_words=24, tokens_of_row=None, rates=None):
        self.folder = folder
        self.max_length = tokens_of_row or 256
        self.rates = rates or {}
        folder.mkdir()
        self.model = model
        if model is None:
            (folder / "config.json").write_text(json.dumps(CONFIG))
            subprocess.run([DSFT, "init-model", "--config", folder / "config.json", "--tokenizer", ROOT / "test/fixtures/data/tokenizer", "--output", folder / "model"],
                           check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.model = folder / "model"
        # every row has another length, so that the tokens of an update say which rows it has
        rows = [{"messages": [{"role": "user", "content": f"Count to {i} from {i * 7 % 10}."},
                              {"role": "assistant", "content": " ".join(str(i * j % 10) for j in range(1 + i * 5 % max_words))}]} for i in range(num_rows)]
        if tokens_of_row:
            rows = [{"token_ids": [3 + (i * 7 + j * 13) % 500 for j in range(tokens_of_row)]} for i in range(num_rows)]
        (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "chatml.jinja").write_text(TEMPLATE)

    def recipe(self, kind, placement, output_dir, *, batch, accumulation=1, steps=STEPS, saves=False, resumes=False):
        trained, rate = KINDS[kind], self.rates.get(kind, 1e-3)
        path = self.folder / "recipe.yaml"
        path.write_text(
            f"recipe: sft\nmodel: {{path: {self.model}, dtype: fp32}}\n{trained}device: cpu\n"
            f"data: {{train: [{self.folder}/train.jsonl], chat_template: {self.folder}/chatml.jinja, packing: false, max_length: {self.max_length}, loss_on: all}}\n"
            f"training: {{max_steps: {steps}, per_device_train_batch_size: {batch}, gradient_accumulation_steps: {accumulation}, learning_rate: {rate:.1e}, "
            f"lr_scheduler_type: constant, warmup_steps: 0, max_grad_norm: 0.5, logging_steps: 1, save_strategy: \"{'steps' if saves else 'no'}\", save_steps: 1000, "
            f"resume_from_checkpoint: {str(resumes).lower()}, report_to: [none]}}\n"
            f"zero: {{{', '.join(placement)}}}\noutput_dir: {output_dir}\n")
        return path

    def environment(self):
        return dict(os.environ, DSFT_CACHE=str(self.folder / "cache"), OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")

    def run(self, ranks, recipe, output_dir):
        """The lines of metrics.jsonl."""
        done = subprocess.run([DSFT, "launch", "--num-procs", str(ranks), recipe], env=self.environment(), capture_output=True, text=True, timeout=3600)
        said = done.stdout + done.stderr
        if done.returncode == 2 and (message := NOT_BUILT.search(said)):
            raise Refused(message.group(0).strip())
        if done.returncode != 0:
            raise Failed(f"ended with {done.returncode}: {said[-800:]}")
        equal = EQUAL_RANKS.search(said)
        if ranks > 1 and (not equal or int(equal.group(1)) != ranks):
            raise Failed(f"the {ranks} ranks are not said to have equal weights: {said[-800:]}")
        lines = [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]
        return [line for line in lines if "loss" in line]

    def train(self, kind, placement, ranks, **settings):
        output_dir = self.folder / "run"
        shutil.rmtree(output_dir, ignore_errors=True)
        return self.run(ranks, self.recipe(kind, placement, output_dir, **settings), output_dir)


def worst_difference(lines, expected):
    if [line["step"] for line in lines] != [line["step"] for line in expected]:
        raise Failed(f"{len(lines)} updates, not {len(expected)}")
    worst = 0
    for line, other in zip(lines, expected):
        for key in ("num_tokens", "learning_rate"):
            if line[key] != other[key]:
                raise Failed(f"step {line['step']}: {key} {line[key]}, of one process {other[key]}")
        for key in ("loss", "grad_norm"):
            difference = abs(line[key] / other[key] - 1)
            if not difference <= BOUND:
                raise Failed(f"step {line['step']}: {key} {line[key]}, of one process {other[key]} ({difference:.1e})")
            worst = max(worst, difference)
    return worst


def cell(cells, where, run, expected):
    try:
        return cells.passed(worst_difference(run(), expected))
    except Refused as refusal:
        return cells.refused(str(refusal))
    except Failed as failure:
        return cells.out(where, failure)


def compare_curves(cells, title, job, kinds, rows_of_update, columns_of, placements=PLACEMENTS):
    """`columns_of`: by kind, what (ranks, accumulation) to run; a column that a placement does not have is left empty by None."""
    for kind in kinds:
        begin = time.monotonic()
        expected = job.train(kind, ["stage: 0"], 1, batch=rows_of_update)
        columns = columns_of(kind)
        rows = []
        for placement in placements:
            row = [placement_name(placement)]
            for ranks, accumulation in columns:
                where = f"{title}, {kind}, {placement_name(placement)}, {ranks} ranks x {accumulation}"
                row.append(cell(cells, where, lambda: job.train(kind, placement, ranks, batch=rows_of_update // ranks // accumulation, accumulation=accumulation), expected))
            rows.append(row)
        table(f"{title}, {kind}: largest difference from one process in loss and gradient norm over {len(expected)} updates (loss {expected[0]['loss']:.3f} to "
              f"{expected[-1]['loss']:.3f}; {time.monotonic() - begin:.0f} s)",
              ["zero", *(f"{ranks} rank{'s' if ranks > 1 else ''}{f' x {accumulation}' if accumulation > 1 else ''}" for ranks, accumulation in columns)], rows)


def compare_tiny(cells, folder):
    compare_curves(cells, "Two layers", Job(folder / "tiny"), KINDS, 8,
                   lambda kind: [(1, 1), (2, 1), (4, 1)] + ([] if kind == "LoRA" else [(1, 2), (2, 2), (4, 2)]))


def has_smollm2():
    has_weights = (SMOLLM2 / "model.safetensors").exists()
    if not has_weights:
        print(f"\nSmolLM2-135M: skipped, {SMOLLM2} has no weights")
    return has_weights


def compare_smollm2(cells, folder):
    if has_smollm2():
        compare_curves(cells, "SmolLM2-135M", Job(folder / "smollm2", SMOLLM2, num_rows=14, max_words=8, rates=SMOLLM2_RATES), list(SMOLLM2_RATES), 4, lambda kind: [(2, 1), (4, 1)], MAIN_PLACEMENTS)


def compare_resumed(cells, folder):
    job = Job(folder / "resume")
    counts, rows_of_update, steps = [4, 2, 1, 3], 12, 5
    rows = []
    for kind, placements in {"LoRA, dropout 0.05": [["stage: 0"], ["stage: 3"]], "all weights": PLACEMENTS}.items():
        expected = job.train(kind, ["stage: 0"], 1, batch=rows_of_update)
        for placement in placements:
            def run():
                output_dir = folder / "resume/run"
                shutil.rmtree(output_dir, ignore_errors=True)
                for i, ranks in enumerate(counts):
                    recipe = job.recipe(kind, placement, output_dir, batch=rows_of_update // ranks, steps=steps * (i + 1), saves=True, resumes=i > 0)
                    lines = job.run(ranks, recipe, output_dir)
                return lines
            rows.append([kind, placement_name(placement), cell(cells, f"resumed, {kind}, {placement_name(placement)}", run, expected)])
    table(f"Two layers, {steps} updates each on {', '.join(map(str, counts))} ranks: largest difference from one process", ["trained", "zero", "difference"], rows)


def compare_memory(cells, title, job, counts):
    rows, header = [], []
    for kind, placement, ranks in [(kind, placement, ranks) for kind in ("LoRA", "all weights") for placement in PLACEMENTS for ranks in counts if len(placement) == 1]:
        where = f"memory of {title}, {kind}, {placement_name(placement)}, {ranks} ranks"
        output_dir = job.folder / "run"
        shutil.rmtree(output_dir, ignore_errors=True)
        recipe = job.recipe(kind, placement, output_dir, batch=2, steps=2)
        done = subprocess.run([DSFT, "launch", "--num-procs", str(ranks), recipe], env=dict(job.environment(), DSFT_TRAINER=str(COLUMNS)), capture_output=True, text=True)
        if done.returncode != 0:
            cells.out(where, f"ended with {done.returncode}: {(done.stdout + done.stderr)[-800:]}")
            continue
        report = json.loads((output_dir / "memory_columns.json").read_text())
        header = ["trained", "zero", "ranks", *report]
        row = [kind, placement_name(placement), ranks]
        for column, (estimated, measured) in report.items():
            is_near = abs(estimated - measured) <= max(MEMORY_BOUND * measured, NEGLIGIBLE * report["total"][1])
            row.append(f"{estimated / 2**20:.2f} / {measured / 2**20:.2f}{'' if is_near else ' OUT'}")
            if is_near:
                cells.num_passed += 1
            else:
                cells.out(where, f"{column}: estimated {estimated}, measured {measured}")
        rows.append(row)
    table(f"{title}: tensors of the rank that has most, MiB estimated / measured", header, rows)


def compare_memory_tiny(cells, folder):
    compare_memory(cells, "Two layers", Job(folder / "memory", tokens_of_row=256), [1, 2, 4])


def compare_memory_smollm2(cells, folder):
    if has_smollm2():
        compare_memory(cells, "SmolLM2-135M", Job(folder / "memory_smollm2", SMOLLM2, tokens_of_row=256), [2])


PARTS = {"tiny": compare_tiny, "smollm2": compare_smollm2, "resume": compare_resumed, "memory": compare_memory_tiny, "memory_smollm2": compare_memory_smollm2}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    cells = Cells()
    with tempfile.TemporaryDirectory() as name:
        for part in arguments.parts:
            PARTS[part](cells, pathlib.Path(name))
    for refusal in sorted(cells.refusals):
        print(f"refused: {refusal}")
    print(f"{cells.num_passed} cells agree, {cells.num_out} are out, {cells.num_refused} were not run (refused)")
    sys.exit(1 if cells.num_out else 0)


if __name__ == "__main__":
    main()
