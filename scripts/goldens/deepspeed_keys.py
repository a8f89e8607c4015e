#!/usr/bin/env python3
"""Every key that DeepSpeed (0.19.8) and Accelerate (1.15) know in their configuration files, for test/recipe_config/deepspeed_import_test.cpp.

Blocks of DeepSpeed are read from its pydantic models and signatures, the top level from the constants that its readers look up.

Usage: deepspeed_keys.py test/fixtures/recipe_config/deepspeed_keys.json
"""
import dataclasses
import inspect
import json
import re
import sys
from pathlib import Path

import deepspeed
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.commands.launch import launch_command_parser
from deepspeed.comm.config import CommsLoggerConfig
from deepspeed.compile.config import CompileConfig
from deepspeed.monitor.config import CometConfig, CSVConfig, TensorBoardConfig, WandbConfig
from deepspeed.runtime import config, lr_schedules
from deepspeed.runtime.constants import __dict__ as constants
from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from deepspeed.runtime.zero.leaf_module_config import DeepSpeedZeroLeafModuleConfig
from deepspeed.runtime.zero.offload_config import DeepSpeedZeroOffloadOptimizerConfig, DeepSpeedZeroOffloadParamConfig

# read elsewhere than through a constant of runtime/constants.py
TOP = ["zero_optimization", "aio", "activation_checkpointing", "flops_profiler", "comms_logger", "autotuning", "timers", "compile", "pipeline",
       "hybrid_engine", "tensor_parallel", "expert_parallel", "weight_quantization", "data_efficiency", "tensorboard", "wandb", "csv_monitor", "comet",
       "datastates_ckpt", "sequence_parallel_size"]
NOT_KEYS = {"train", "eval", "predict", "encode", "params", "type", "legacy_fusion", "enabled"}


def fields(model):
    names = []
    for name, field in model.model_fields.items():
        names += sorted({name, field.alias or name})
    return names


def top_level():
    source = inspect.getsource(config)
    names = set(TOP)
    for constant in re.findall(r"get_scalar_param\(\s*param_dict,\s*([A-Z_0-9]+)", source) + re.findall(r"param_dict\.get\(([A-Z_0-9]+)", source):
        value = constants.get(constant) or getattr(config, constant)
        names.add(value)
    names |= {"optimizer", "scheduler", "fp16", "bf16", "bfloat16", "torch_autocast", "communication_data_type", "seq_parallel_communication_data_type"}
    return sorted(names - NOT_KEYS)


def main():
    assert deepspeed.__version__ == "0.19.8", deepspeed.__version__
    removed_zero = list(config._REMOVED_ZERO_CONFIG_KEYS)
    known = {
        "": top_level(),
        "fp16": fields(DeepSpeedFP16Config),
        "bf16": fields(DeepSpeedBF16Config),
        "zero_optimization": fields(DeepSpeedZeroConfig),
        "zero_optimization.offload_optimizer": fields(DeepSpeedZeroOffloadOptimizerConfig),
        "zero_optimization.offload_param": fields(DeepSpeedZeroOffloadParamConfig),
        "zero_optimization.leaf_module": fields(DeepSpeedZeroLeafModuleConfig),
        "tensorboard": fields(TensorBoardConfig),
        "wandb": fields(WandbConfig),
        "csv_monitor": fields(CSVConfig),
        "comet": fields(CometConfig),
        "comms_logger": fields(CommsLoggerConfig),
        "compile": fields(CompileConfig),
    }
    schedulers = {name: list(inspect.signature(getattr(lr_schedules, name).__init__).parameters)[2:] for name in ("WarmupLR", "WarmupDecayLR", "WarmupCosineLR", "OneCycle")}
    options = {action.dest for action in launch_command_parser()._actions}
    plugin = sorted(name for name in options if re.match(r"deepspeed_|zero_stage|zero3_|offload_(param|optimizer)_(device|nvme)|gradient_(accum|clip)", name)
                    and name not in ("deepspeed_fields_from_accelerate_config",))
    result = {
        "known": known,
        "removed": {"": list(config._REMOVED_TOP_LEVEL_CONFIG_KEYS), "zero_optimization": removed_zero},
        "schedulers": schedulers,
        "accelerate": [field.name for field in dataclasses.fields(ClusterConfig)],
        "accelerate_deepspeed": plugin,
    }
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
