#pragma once

#include <torch/types.h>

#include "batch/policy_targets.h"
#include "rl/grpo_config.h"

namespace dsft::rl {

/// What the model says of the N supervised tokens of a batch, fp32 [N] each, and what they weigh.
struct ScoredTokens {
  at::Tensor log_probs;
  at::Tensor entropies;
  at::Tensor weights;
};

/// The policy's loss before any reduction, and what its metrics are taken from.
struct PolicyTerms {
  at::Tensor loss;         ///< [N], with the KL term, not yet weighed
  at::Tensor kl;           ///< [N]; undefined without a reference policy
  at::Tensor lengths;      ///< [R]: weights of the rows' tokens, at least 1
  at::Tensor ratios;       ///< [N], or [R] at the level of sequences; by which clips are counted
  at::Tensor row_weights;  ///< [R] of vespo: gamma weight of each sequence; else undefined
};

/// TRL's per-token loss (docs/grpo.md) of the tokens, from `policy`, whose rows they are.
PolicyTerms policy_terms(const ScoredTokens& tokens, const PolicyTargets& policy, const GrpoConfig& config);

}  // namespace dsft::rl
