#!/usr/bin/env python3
"""Writes small valid inputs, from which the fuzzers start, made of test/fixtures and recipes/: make_seeds.py FOLDER gets FOLDER/<target>/<number>."""
import json
import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "test/fixtures"


def load(name):
    return json.loads((FIXTURES / name).read_text(encoding="utf-8"))


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def safetensors_file(header, data):
    text = compact(header)
    return struct.pack("<Q", len(text)) + text + data


def safetensors():
    tensor = {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}
    yield safetensors_file({"a": tensor}, b"1234")
    yield safetensors_file({"__metadata__": {"format": "pt"}, "b": {"dtype": "F32", "shape": [], "data_offsets": [4, 8]}, "a": tensor}, b"12345678")
    yield safetensors_file({"a": {"dtype": "F8_E4M3", "shape": [0, 3], "data_offsets": [0, 0]}, "b": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}, b"12345678")
    yield safetensors_file({}, b"")


def safetensors_index():
    yield compact({"metadata": {"total_size": 3}, "weight_map": {"x": "a.safetensors", "y": "a.safetensors"}})
    yield compact({"weight_map": {"x": "../a.safetensors"}})


def rows():
    examples = [case["row"] for case in load("data/labels.json")]
    for begin in range(0, len(examples), 7):
        yield b"\n".join(compact(row) for row in examples[begin : begin + 7])
    yield compact({"prompt": ["a", "b"], "completion": ["c", "d"]})
    yield compact([{"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": '{"name": "f", "arguments": {}}'}]}])
    yield compact({"instruction": "i", "input": "x", "output": "o", "system": "s", "history": [["q", "a"]]})
    yield compact({"token_ids": [1, 2, 3], "labels": [-100, 2, 3]})
    yield b"\xef\xbb\xbf" + compact({"text": "t"}) + b"\r\n\r\n \n"


def example():
    yield from (compact(case["row"]) for case in load("data/labels.json"))


def small_tokenizer(override):
    words = list("\u0120\u010a\u2581Helowrdxaim_<>|!123") + ["\u0120w", "He", "ll", "llo", "aa", "aaaa"]
    merges = [["\u0120", "w"], ["H", "e"], ["l", "l"], ["ll", "o"], ["a", "a"], ["aa", "aa"]]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document = {
        "added_tokens": [{"id": len(words), "content": "<|im_start|>", **special}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {word: i for i, word in enumerate(words)}, "merges": merges},
    }
    for key, value in override.items():
        document[key] = {**document[key], **value} if key == "model" else value
    return document


def tokenizer():
    for case in load("text/tokenizer/components.cases.json")["cases"]:
        yield compact(small_tokenizer(case["override"]))


def tokenizer_text():
    texts = [text for text in load("text/tokenizer/components.cases.json")["texts"] if len(text) > 8]
    yield from (bytes([i]) + text.encode() for i, text in enumerate(texts))


def chat_template():
    yield from ((file.read_bytes()) for folder in ("text/chat_template", "data/templates") for file in sorted((FIXTURES / folder).glob("*.jinja")))
    # expressions that render, several to a file
    sources = [case[0] for case in load("text/chat_template/language.json")["cases"] if len(case) > 1 and case[1] is not None]
    for begin in range(0, len(sources), 12):
        yield "\n".join(sources[begin : begin + 12]).encode()


def tokenizer_config():
    yield (FIXTURES / "data/tokenizer/tokenizer_config.json").read_bytes()
    yield compact({"bos_token": {"content": "<s>", "lstrip": False}, "eos_token": "</s>", "pad_token": None, "chat_template": "{{ messages[0].content }}"})
    yield compact({"chat_template": [{"name": "default", "template": "{{ bos_token }}"}, {"name": "tool_use", "template": "{{ tools }}"}]})


def model_config():
    yield from (compact(case["config"]) for name, case in load("spec/configs.json")["cases"].items() if not name.endswith("_rewritten"))
    yield (FIXTURES / "checkpoint/base/generation_config.json").read_bytes()


def adapter_config():
    yield from (file.read_bytes() for file in sorted((FIXTURES / "checkpoint").glob("*/adapter_config.json")))
    yield from (compact({"peft_type": "LORA", **case["settings"]}) for case in load("spec/lora_targets.json")["cases"])


def recipe():
    yield from (file.read_bytes() for file in sorted((ROOT / "recipes").glob("*/*.yaml")))
    base = b"recipe: sft\noutput_dir: a\nmodel: {path: m}\ndata: {train: [{path: t.jsonl, weight: 2}], chat_template_kwargs: {x: [1, null]}}\n"
    yield base
    yield base + b"lora: &l {r: 8, rank_pattern: {'^a': 4}, target_modules: all-linear}\ntraining: {<<: {max_steps: 5}, learning_rate: 1e-4, save_strategy: no}\n"


def deepspeed():
    yield from (file.read_bytes() for file in sorted((ROOT / "recipes/deepspeed").glob("*.json")))
    yield b'// c\n{"train_batch_size": 8, "fp16": {"enabled": "auto", "loss_scale": 0, "hysteresis": 2}, "bf16": {"enabled": false}, "aio": {"x": [1e3]}}'
    params = {"WarmupDecayLR": {"warmup_num_steps": 5, "total_num_steps": "auto", "warmup_max_lr": [1e-4, 1e-4]}, "OneCycle": {"cycle_min_lr": 0, "cycle_max_lr": 1, "cycle_momentum": False}}
    for name, values in params.items():
        yield compact({"optimizer": {"type": "AdamW", "params": {"betas": [0.9, 0.99], "lr": "auto"}}, "scheduler": {"type": name, "params": values}})
    yield compact({"zero_optimization": {"stage": 2, "reduce_bucket_size": "auto", "cpu_offload": True, "offload_param": {"device": "nvme"}}, "stage": 3})
    yield b"compute_environment: LOCAL_MACHINE\ndistributed_type: DEEPSPEED\nmixed_precision: 'no'\nnum_processes: 2\ndeepspeed_config: {zero_stage: 1, gradient_clipping: 1.0}\n"
    yield b"distributed_type: NO\nuse_cpu: true\nmixed_precision: bf16\nmachine_rank: 1\ntpu_env: []\n"


def tool_calls():
    yield b'x<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call><tool_call><function=g><parameter=k>\nv\n</parameter></function></tool_call>'
    yield b'[TOOL_CALLS] [{"name": "f", "arguments": {"a": "b"}}]</s>'
    yield b'<|python_tag|>{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}<|eom_id|>'
    yield b'<function=f>{"a": [1.5, null]}</function>'


def reward_protocol():
    yield b'{"protocol": 1, "name": "style"}'
    yield b'{"protocol": 2, "name": null}\r\n{"id": 1, "rewards": [0.5, null]}\n'
    yield b'{"id": 1, "rewards": [-1e-3, null], "note": {"a": [true, "\\u00e9"]}}'
    yield b'{"id": 1, "rewards": []}'
    yield b'{"id": "1", "rewards": [NaN, 1e999, "2"]}'
    yield b"debug output\n" * 20


def main():
    for seeds in (safetensors, safetensors_index, rows, example, tokenizer, tokenizer_text, chat_template, tokenizer_config, model_config,
                  adapter_config, recipe, deepspeed, tool_calls, reward_protocol):
        folder = Path(sys.argv[1]) / seeds.__name__
        folder.mkdir(parents=True, exist_ok=True)
        for i, content in enumerate(seeds()):
            (folder / f"{i:03}").write_bytes(content)


if __name__ == "__main__":
    main()
