#!/usr/bin/env python3
"""Loss, metrics and gradient of TRL's own GRPOTrainer._compute_loss (trl 1.16) on made-up rollouts of the tiny model test/fixtures/model/llama_plain, for
test/rl/grpo_loss_golden_test.cpp: every loss_type at both importance sampling levels, with three sets of options, and with the rows in two micro-steps of one
update (gradient_accumulation_steps 2; metrics are TRL's of each micro-step, and not kept; not bnpo, which then divides by each micro-step's tokens).

Six rows of padded prompts and completions: one is truncated and masked (mask_truncated_completions), one has tokens in its middle that are not the policy's
(tool_mask), one a single token. The gradient is that of the hidden states before the final norm, where they predict a token of the policy, row after row.

Usage: grpo_loss.py test/fixtures/model/llama_plain test/fixtures/rl/grpo_loss
(writes grpo_loss.json and grpo_loss.safetensors)
"""
import copy
import json
import sys
from collections import defaultdict

import accelerate
import torch
import transformers
import trl
from safetensors.torch import save_file
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

LOSS_TYPES = ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"]
LEVELS = ["token", "sequence"]
PROMPTS, COMPLETIONS = [3, 5, 2, 4, 3, 2], [7, 4, 1, 8, 6, 5]
TRUNCATED, WITH_TOOL = 3, 4
PADDING = 0
DEFAULTS = {"temperature": 1.0, "beta": 0.0, "use_bias_correction_kl": True, "epsilon": 0.2, "epsilon_high": None, "delta": None,
            "off_policy_mask_threshold": None, "top_entropy_quantile": 1.0, "entropy_coef": 0.0, "max_completion_length": 10}
OPTIONS = {
    "clipped": {"epsilon": 0.1, "epsilon_high": 0.28},
    "on_policy": {"beta": 0.04, "temperature": 1.3},
    "everything": {"temperature": 0.7, "beta": 0.1, "use_bias_correction_kl": False, "delta": 1.4, "epsilon_high": 0.3, "off_policy_mask_threshold": 0.05,
                   "top_entropy_quantile": 0.5, "entropy_coef": 0.02},
}


def make_rollouts(vocab_size):
    generator = torch.Generator().manual_seed(11)
    rows, width, length = len(PROMPTS), max(PROMPTS), max(COMPLETIONS)
    rollouts = {"prompt_ids": torch.full((rows, width), PADDING), "prompt_mask": torch.zeros(rows, width, dtype=torch.long),
                "completion_ids": torch.full((rows, length), PADDING), "completion_mask": torch.zeros(rows, length, dtype=torch.long),
                "tool_mask": torch.ones(rows, length, dtype=torch.long)}
    for row, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS)):
        rollouts["prompt_ids"][row, width - prompt:] = torch.randint(3, vocab_size, (prompt,), generator=generator)
        rollouts["prompt_mask"][row, width - prompt:] = 1
        rollouts["completion_ids"][row, :completion] = torch.randint(3, vocab_size, (completion,), generator=generator)
        rollouts["completion_mask"][row, :completion] = 0 if row == TRUNCATED else 1
    rollouts["tool_mask"][TRUNCATED] = 0
    rollouts["tool_mask"][WITH_TOOL, 2:4] = 0
    rollouts["advantages"] = torch.tensor([1.2, -0.8, 0.4, 0.9, -1.1, 0.0])
    rollouts["num_items_in_batch"] = (rollouts["completion_mask"] * rollouts["tool_mask"]).sum()
    noise = lambda scale: torch.randn(rows, length, generator=generator) * scale
    return rollouts, {"old": noise(0.3) - 0.02, "reference": noise(0.4), "sampling": noise(0.2) + 0.05}


def make_trainer(model, accelerator, config, options, loss_type, level, accumulation):
    trainer = object.__new__(GRPOTrainer)
    trainer.accelerator, trainer.model = accelerator, model
    trainer.loss_type, trainer.importance_sampling_level = loss_type, level
    trainer.beta = options["beta"]
    trainer.epsilon_low = options["epsilon"]
    trainer.epsilon_high = options["epsilon"] if options["epsilon_high"] is None else options["epsilon_high"]
    trainer.off_policy_mask_threshold = options["off_policy_mask_threshold"]
    trainer.top_entropy_quantile = options["top_entropy_quantile"]
    trainer.max_completion_length = options["max_completion_length"]
    trainer.entropy_coef, trainer.use_adaptive_entropy = options["entropy_coef"], False
    trainer._entropy_bonus_enabled = options["entropy_coef"] != 0.0
    trainer.aux_loss_enabled = trainer.use_vllm = trainer.vllm_importance_sampling_correction = False
    trainer.current_gradient_accumulation_steps = accumulation
    trainer._metrics = {"train": defaultdict(list)}
    trainer.args = copy.copy(config)
    trainer.args.steps_per_generation = accumulation
    trainer.args.delta, trainer.args.use_bias_correction_kl = options["delta"], options["use_bias_correction_kl"]
    return trainer


def run(folder, accelerator, config, options, has_old, loss_type, level, accumulation=1):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").train()
    add_fused_lm_head(model, temperature=options["temperature"], outputs=("log_probs", "entropy"))
    rollouts, noise = make_rollouts(model.config.vocab_size)
    trainer = make_trainer(model, accelerator, config, options, loss_type, level, accumulation)
    input_ids = torch.cat([rollouts["prompt_ids"], rollouts["completion_ids"]], 1)
    attention_mask = torch.cat([rollouts["prompt_mask"], rollouts["completion_mask"]], 1)
    length = rollouts["completion_ids"].size(1)
    with torch.no_grad():
        own = trainer._get_per_token_logps_and_entropies(model, input_ids, attention_mask, length)[0]
    if has_old:
        rollouts["old_per_token_logps"] = own + noise["old"]
        rollouts["sampling_per_token_logps"] = own + noise["old"] + noise["sampling"]
    if options["beta"] != 0:
        rollouts["ref_per_token_logps"] = own + noise["reference"]
    hidden = []
    model.model.norm.register_forward_pre_hook(lambda module, inputs: (inputs[0].retain_grad(), hidden.append(inputs[0])) and None)
    total, size = 0.0, len(PROMPTS) // accumulation
    for first in range(0, len(PROMPTS), size):
        # num_items_in_batch is the whole update's in each, as GRPOTrainer has it
        loss = trainer._compute_loss(model, {name: value[first:first + size] if value.dim() else value for name, value in rollouts.items()})
        loss.backward()
        total += loss.item()
    metrics = {name: values[-1] for name, values in trainer._metrics["train"].items() if name != "entropy_coef"}
    return rollouts, total, metrics, torch.cat([value.grad for value in hidden[-accumulation:]])


def of_policy(rollouts, values, shift=0):
    """Values [B, C, ...] at the policy's tokens (those of the truncated row included), row after row; `shift` -1: at the positions that predict them."""
    width, parts = rollouts["prompt_ids"].size(1), []
    for row, length in enumerate(COMPLETIONS):
        for i in range(length):
            if row == TRUNCATED or rollouts["tool_mask"][row, i]:
                parts.append(values[row, i if shift == 0 else width + i - 1])
    return torch.stack(parts)


def main():
    folder, output = sys.argv[1], sys.argv[2]
    config = trl.GRPOConfig(output_dir="unused", use_cpu=True, bf16=False, report_to="none")
    accelerator = accelerate.Accelerator(cpu=True)
    cases, tensors = [], {}
    for options_name, changes in OPTIONS.items():
        options, has_old = {**DEFAULTS, **changes}, options_name != "on_policy"
        for loss_type in LOSS_TYPES:
            for level in LEVELS:
                rollouts, loss, metrics, gradient = run(folder, accelerator, config, options, has_old, loss_type, level)
                name = f"{options_name}.{loss_type}.{level}"
                cases.append({"name": name, "inputs": options_name, "loss_type": loss_type, "level": level, "options": options, "loss": loss,
                              "metrics": metrics})
                tensors[f"{name}.gradient"] = of_policy(rollouts, gradient, shift=-1).contiguous()
        for loss_type in LOSS_TYPES if has_old else []:
            if loss_type == "bnpo":
                continue
            # the mean of entropies and their quantile are each micro-step's in TRL
            apart = {**options, "top_entropy_quantile": 1.0, "entropy_coef": 0.0}
            _, loss, _, gradient = run(folder, accelerator, config, apart, has_old, loss_type, "token", accumulation=2)
            name = f"{options_name}.{loss_type}.token.accumulated"
            cases.append({"name": name, "inputs": options_name, "loss_type": loss_type, "level": "token", "accumulation": 2, "options": apart, "loss": loss,
                          "metrics": {}})
            tensors[f"{name}.gradient"] = of_policy(rollouts, gradient, shift=-1).contiguous()
        for key in ("old", "sampling", "ref"):
            values = rollouts.get(f"{key}_per_token_logps")
            if values is not None:
                tensors[f"{options_name}.{key}_log_probs"] = of_policy(rollouts, values).contiguous()
    rows = []
    for row, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS)):
        rows.append({"prompt": rollouts["prompt_ids"][row, max(PROMPTS) - prompt:].tolist(), "completion": rollouts["completion_ids"][row, :completion].tolist(),
                     "is_policy": [row == TRUNCATED or bool(value) for value in rollouts["tool_mask"][row, :completion]],
                     "is_left_out": row == TRUNCATED, "advantage": rollouts["advantages"][row].item()})
    save_file(tensors, output + ".safetensors")
    with open(output + ".json", "w") as file:
        file.write(json.dumps({"trl": trl.__version__, "rows": rows})[:-1] + ', "cases": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]}\n")
    print(len(cases), "cases")


main()
