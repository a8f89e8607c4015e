#!/usr/bin/env python3
"""What DeepSpeed's memory estimators (deepspeed 0.19.8) say, for test/estimate/deepspeed_figures_test.cpp.

Usage: deepspeed_estimators.py test/fixtures/estimate/deepspeed_estimators.json

Needs torch and deepspeed; installed with DS_BUILD_OPS=0 it needs neither a GPU nor a compiler. The model is counted by DeepSpeed's own model_to_params.
"""
import json
import sys

import torch
from deepspeed import __version__
from deepspeed.runtime.zero import stage3
from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs
from transformers import AutoConfig, AutoModelForCausalLM

SIZES = [(134515008, 28311552), (596049920, 155582464), (7615616512, 544997376), (70553706496, 1050673152), (999999999, 7777777)]
LAYOUTS = [(1, 1), (2, 1), (3, 1), (8, 1), (8, 2), (4, 3)]  # GPUs a host, hosts
CONFIG = {"model_type": "qwen2", "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
          "num_key_value_heads": 2, "max_position_embeddings": 128}


def counted(tied):
    config = AutoConfig.for_model(**CONFIG, tie_word_embeddings=tied)
    with torch.random.fork_rng():
        total, largest = stage3.model_to_params(AutoModelForCausalLM.from_config(config))
    return {"config": {**CONFIG, "tie_word_embeddings": tied}, "num_params": total, "largest_layer": largest}


def main():
    assert __version__.startswith("0.19.8"), __version__
    rows = []

    def add(stage, optimizer, param, zero_init, params, largest, gpus, hosts, figures):
        rows.append({"stage": stage, "offload_optimizer": optimizer, "offload_param": param, "zero_init": zero_init, "num_params": params,
                     "largest_layer": largest, "num_gpus": gpus, "num_hosts": hosts, "host": figures[0], "gpu": figures[1]})

    for params, largest in SIZES:
        for gpus, hosts in LAYOUTS:
            for optimizer in (False, True):
                add(2, optimizer, False, True, params, largest, gpus, hosts, estimate_zero2_model_states_mem_needs(params, gpus, hosts, optimizer))
                for param in (False, True) if optimizer else (False,):
                    for zero_init in (False, True):
                        add(3, optimizer, param, zero_init, params, largest, gpus, hosts,
                            estimate_zero3_model_states_mem_needs(params, largest, gpus, hosts, optimizer, param, zero_init))
    with open(sys.argv[1], "w") as file:
        models = ",\n".join(json.dumps(counted(tied)) for tied in (False, True))
        file.write('{"models": [\n' + models + '\n], "rows": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]}\n")


if __name__ == "__main__":
    main()
