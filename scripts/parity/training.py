#!/usr/bin/env python3
"""Loss and gradient norm of 20 updates of `dsft launch` against transformers' Trainer (with PEFT), fp32 on the CPU.

Both start from the same weights (for LoRA: an adapter with random B made by PEFT, given to dsft by lora.adapter), see the same rows in the same order
(no shuffling, no packing; mixed lengths, some tokens not supervised) and use the same schedule, clipping and accumulation.
"""
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from comparison import IGNORED, STARTER_MODEL, Comparisons, random_configs, random_row, read_rows, run_dsft, save_random_model, write_rows
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PrinterCallback, Trainer, TrainingArguments

LOSS_BOUND, NORM_BOUND = 1e-4, 1e-3  # relative
# Some random rows make SmolLM2's gradients large and badly conditioned: on them transformers' own two attention implementations (sdpa, eager) give
# norms that are 8e-4 apart.
STARTER_NORM_BOUND = 5e-3
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Setting:
    """How both sides train."""
    learning_rate: float
    num_steps: int = 20
    batch: int = 2
    accumulation: int = 2
    device: str = "cpu"
    dtype: str = "fp32"

    def num_rows(self):
        return self.num_steps * self.batch * self.accumulation


class RecordingTrainer(Trainer):
    """A Trainer that keeps each update's unrounded loss and takes the rows in their order."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.micro_losses = []

    def _get_train_sampler(self, *_, **__):
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self.micro_losses.append(loss.item())
        return loss


def collate(rows):
    length = max(len(row["token_ids"]) for row in rows)

    def padded(values, filler):
        return torch.tensor([value + [filler] * (length - len(value)) for value in values])

    ids = [row["token_ids"] for row in rows]
    return {"input_ids": padded(ids, 2), "labels": padded([row["labels"] for row in rows], IGNORED),
            "attention_mask": padded([[1] * len(row) for row in ids], 0)}


def train_peer(model, rows, setting, folder, **arguments):
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=setting.num_steps, per_device_train_batch_size=setting.batch,
        gradient_accumulation_steps=setting.accumulation, learning_rate=setting.learning_rate, lr_scheduler_type="cosine", warmup_steps=2,
        logging_steps=1, save_strategy="no", report_to=[], use_cpu=setting.device == "cpu", remove_unused_columns=False, optim="adamw_torch",
        weight_decay=0.0, max_grad_norm=1.0, dataloader_num_workers=0, disable_tqdm=True, **arguments)
    trainer = RecordingTrainer(model=model, args=arguments, train_dataset=rows, data_collator=collate)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    micro = trainer.micro_losses
    losses = [sum(micro[begin:begin + setting.accumulation]) for begin in range(0, len(micro), setting.accumulation)]
    norms = [float(entry["grad_norm"]) for entry in trainer.state.log_history if "grad_norm" in entry]
    return losses, norms


def train_dsft(model_path, rows_path, setting, folder, lora, *overrides):
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"""recipe: sft
output_dir: {folder / "dsft"}
device: {setting.device}
model: {{path: {model_path}, dtype: {setting.dtype}}}
{lora}
data: {{train: [{rows_path}], max_length: 512, packing: false, shuffle: false}}
training: {{max_steps: {setting.num_steps}, per_device_train_batch_size: {setting.batch}, gradient_accumulation_steps: {setting.accumulation},
  learning_rate: {setting.learning_rate}, lr_scheduler_type: cosine, warmup_steps: 2, weight_decay: 0, max_grad_norm: 1.0, logging_steps: 1,
  save_strategy: "no", report_to: [none]}}
""")
    run_dsft("launch", recipe, *overrides, device=setting.device)
    logs = [entry for entry in read_rows(folder / "dsft" / "metrics.jsonl") if "grad_norm" in entry]
    return [entry["loss"] for entry in logs], [entry["grad_norm"] for entry in logs]


def start_adapter(model, folder, rank=8):
    """An adapter whose B is not zero, so that A has gradients from the first step; the PEFT model of it in training mode."""
    torch.manual_seed(5)
    peft_model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS, task_type="CAUSAL_LM"))
    for name, parameter in peft_model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    peft_model.save_pretrained(folder)
    return peft_model


def lora_section(adapter, rank=8):
    return f"lora: {{r: {rank}, lora_alpha: {2 * rank}, target_modules: [{', '.join(TARGETS)}], adapter: {adapter}, task_type: CAUSAL_LM}}"


def largest_relative(ours, theirs):
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))


def compare(comparisons, case, model, model_path, use_lora, folder, norm_bound=NORM_BOUND):
    folder.mkdir()
    rng = random.Random(11)
    setting = Setting(learning_rate=2e-4 if use_lora else 1e-5)
    rows = [random_row(rng, rng.randrange(12, 64), num_ignored=rng.choice([0, 5, 9])) for _ in range(setting.num_rows())]
    write_rows(folder / "rows.jsonl", rows)
    lora = ""
    if use_lora:
        start_adapter(model, folder / "adapter")
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32), folder / "adapter", is_trainable=True)
        lora = lora_section(folder / "adapter")
    peer_losses, peer_norms = train_peer(model, rows, setting, folder / "peer")
    losses, norms = train_dsft(model_path, folder / "rows.jsonl", setting, folder, lora)
    comparisons.add_error(f"{case}: loss, relative", largest_relative(losses, peer_losses), LOSS_BOUND)
    comparisons.add_error(f"{case}: gradient norm, relative", largest_relative(norms, peer_norms), norm_bound)


def main():
    comparisons = Comparisons("training, 20 updates")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index, (family, config) in enumerate(random_configs().items()):
            model_path = folder / f"model-{index}"
            for use_lora in (True, False):
                model = save_random_model(config, model_path)
                compare(comparisons, f"{family}, {'LoRA' if use_lora else 'full'}", model, model_path, use_lora, folder / f"{index}-{use_lora}")
        starter = AutoModelForCausalLM.from_pretrained(STARTER_MODEL, dtype=torch.float32)
        compare(comparisons, "SmolLM2-135M-Instruct, LoRA", starter, STARTER_MODEL, True, folder / "starter", STARTER_NORM_BOUND)
    comparisons.finish()


if __name__ == "__main__":
    main()
