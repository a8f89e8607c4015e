#pragma once

#include <cstdint>
#include <optional>

#include "estimate/workload.h"

namespace dsft::estimate {

/// What DeepSpeed's estimators say a model's states take, in bytes.
struct DeepSpeedFigures {
  int64_t gpu = 0;   ///< on each GPU
  int64_t host = 0;  ///< on each host
  bool operator==(const DeepSpeedFigures&) const = default;
};

/// A model as these estimators see it.
struct DeepSpeedModel {
  int64_t num_params = 0;     ///< shared ones once
  int64_t largest_layer = 0;  ///< most parameters that one module has itself
};

DeepSpeedModel deepspeed_model(const spec::ModelSpec& spec);

/// deepspeed 0.19.8's estimate_zero2_model_states_mem_needs and estimate_zero3_model_states_mem_needs, to the byte:
/// full fine-tuning in 16 bits, without activations. None for what they have no figures for: stages 0 and 1, and
/// parameters in host memory without the optimizer. `zero_init`: the model is made in slices, as transformers does with
/// a stage 3 configuration.
std::optional<DeepSpeedFigures> deepspeed_figures(const DeepSpeedModel& model, const Placement& placement,
                                                  int64_t num_hosts = 1, bool zero_init = true);

}  // namespace dsft::estimate
