#pragma once

#include <torch/types.h>

#include "batch/batch.h"
#include "model/causal_lm.h"

namespace dsft::rl {

/// What a model says of a batch's N supervised tokens, at a temperature.
struct PolicyScores {
  at::Tensor log_probs;  ///< fp32 [N]
  at::Tensor entropies;  ///< fp32 [N]
};

/// Scores a batch on the model's device, without dropout and without a gradient: old log-probabilities, those of a
/// reference, or the entropies for mask_low_entropy. With parameters in slices (ZeRO-3) give the run's hooks.
PolicyScores score_policy(model::CausalLm& model, const Batch& batch, double temperature,
                          nn::BlockHooks* hooks = nullptr);

}  // namespace dsft::rl
