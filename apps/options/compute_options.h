#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "device/device_config.h"
#include "spec/model_config.h"

namespace dsft::apps {

/// `--dtype` and `--device` of the commands that compute.
struct ComputeOptions {
  std::optional<spec::ComputeDtype> dtype;  ///< none: the recipe's, or bf16 on CUDA, fp32 on CPU
  device::DeviceChoice device = device::DeviceChoice::kAuto;
};

/// Adds --dtype bf16|fp16|fp32; `help` says what it is for.
void add_dtype_option(CLI::App& command, std::optional<spec::ComputeDtype>& dtype, const std::string& help);
/// Adds --dtype and --device; the defaults are what the help says where they are not written.
void add_compute_options(CLI::App& command, ComputeOptions& options,
                         const std::string& default_dtype = "bf16 on CUDA, fp32 on CPU",
                         const std::string& default_device = "auto");

}  // namespace dsft::apps
