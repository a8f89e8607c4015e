"""TRL SFTTrainer speed on one GPU over a dataset of variable-length chats: padded batches against bfd packing.

The chats are those of chat_rows.py, already tokenized, every token a label. LoRA r=16 on q, k, v, o over bf16 weights (by default TRL loads float32 weights), no gradient
checkpointing unless asked for (TRL's default is to checkpoint). Tokens/s counts only real tokens (no padding), from the
end of the warm-up to the end of the run, so it includes data loading, the optimizer and the trainer's bookkeeping.

Attention: "sdpa" works everywhere; for packed rows transformers then builds a block-diagonal mask over the whole row
(batch x 2048 positions, since TRL flattens the batch). "torch_varlen" (packed only, CUDA only) calls the
FlashAttention-2 kernel inside PyTorch on TRL's sequence boundaries, as attn_implementation="flash_attention_2" does
through the flash-attn package; "flash_attention_2" itself works where that package is installed.
Prints one JSON line: useful tokens/s, mean and median ms per step, padding's share of computed positions, peak GiB.

    python trl_sft.py --layout padded --batch 8
    python trl_sft.py --layout packed --batch 8 --attention torch_varlen
    python trl_sft.py --layout packed --batch 8 --attention torch_varlen --liger
    python trl_sft.py --tiny --layout packed          # dry run, also on a CPU
"""
import argparse
import logging
import statistics
import tempfile
import time

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models
from transformers import AttentionInterface, PreTrainedTokenizerFast, TrainerCallback
from trl import SFTConfig, SFTTrainer

from chat_rows import CUT, ROWS_PER_BIN, chats
from harness import ATTENTION_LINEAR, DEVICE, SHAPES, build_model, report, start_memory_count, synchronize


def pad_tokenizer():
    """The trainer only asks it for the pad and end tokens: the dataset is tokenized."""
    vocabulary = {"<pad>": 0, "<eos>": 1}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>")),
                                   pad_token="<pad>", eos_token="<eos>")


def torch_varlen(module, query, key, value, attention_mask, scaling=None, cu_seq_lens_q=None, max_length_q=None, **_):
    from torch.nn.attention.varlen import varlen_attn
    query, key, value = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    output = varlen_attn(query, key, value, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q,
                         scale=scaling, window_size=(-1, 0))
    return output.unsqueeze(0), None


AttentionInterface.register("torch_varlen", torch_varlen)


class CountingTrainer(SFTTrainer):
    useful_tokens = 0
    computed_tokens = 0

    def training_step(self, model, inputs, *args, **kwargs):
        positions = inputs["input_ids"].numel()
        self.computed_tokens += positions
        self.useful_tokens += int(inputs["attention_mask"].sum()) if "attention_mask" in inputs else positions
        return super().training_step(model, inputs, *args, **kwargs)


class StepClock(TrainerCallback):
    """Notes when each step ends; zeroes the trainer's token counts when the warm-up steps are done."""

    def __init__(self, warmup):
        self.warmup = warmup
        self.trainer = None
        self.ends = []

    def on_step_end(self, args, state, control, **_):
        synchronize()
        self.ends.append(time.perf_counter())
        if state.global_step == self.warmup:
            self.trainer.useful_tokens = self.trainer.computed_tokens = 0

    def measured_steps(self):
        ends = self.ends[self.warmup - 1:]
        return [after - before for before, after in zip(ends, ends[1:])]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="qwen3-0.6b", choices=list(SHAPES))
    parser.add_argument("--layout", default="padded", choices=["padded", "packed"])
    parser.add_argument("--attention", default="sdpa", choices=["sdpa", "torch_varlen", "flash_attention_2"])
    parser.add_argument("--batch", type=int, default=8, help="rows per step: chats if padded, packs of 2048 if packed")
    parser.add_argument("--recompute", action="store_true", help="gradient checkpointing (TRL's default)")
    parser.add_argument("--liger", action="store_true", help="TRL's use_liger_kernel")
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tiny", action="store_true", help="two-layer model, few steps, for a dry run")
    args = parser.parse_args()
    if args.tiny:
        args.shape, args.batch, args.warmup, args.steps = "tiny", 2, 1, 2
    case = {name: getattr(args, name) for name in ("shape", "layout", "attention", "batch", "recompute", "liger")}
    logging.getLogger("transformers").setLevel(logging.ERROR)

    start_memory_count()
    clock = StepClock(args.warmup)
    chats_per_row = 1 if args.layout == "padded" else ROWS_PER_BIN
    num_chats = (args.warmup + args.steps) * args.batch * chats_per_row
    trainer = CountingTrainer(
        model=build_model(args.shape, args.attention),
        processing_class=pad_tokenizer(),
        train_dataset=Dataset.from_dict({"input_ids": chats(num_chats, SHAPES[args.shape].vocab_size)}),
        peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=list(ATTENTION_LINEAR),
                               task_type="CAUSAL_LM"),
        callbacks=[clock],
        args=SFTConfig(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=args.batch, max_steps=args.warmup + args.steps,
            max_length=CUT, packing=args.layout == "packed", gradient_checkpointing=args.recompute,
            use_liger_kernel=args.liger, bf16=True, use_cpu=DEVICE == "cpu", learning_rate=1e-4, save_strategy="no",
            report_to="none", disable_tqdm=True, seed=0))
    clock.trainer = trainer
    try:
        trainer.train()
    except torch.OutOfMemoryError:
        report(peer="trl_sft", **case, out_of_memory=True)
        raise SystemExit(0)
    steps = clock.measured_steps()
    seconds = sum(steps)
    report(peer="trl_sft", **case, useful_tokens_per_s=round(trainer.useful_tokens / seconds),
           useful_tokens_per_step=round(trainer.useful_tokens / args.steps),
           padding_share=round(1 - trainer.useful_tokens / trainer.computed_tokens, 3),
           ms_per_step=round(seconds * 1e3 / len(steps), 1), median_ms=round(statistics.median(steps) * 1e3, 1),
           steps=len(steps))
