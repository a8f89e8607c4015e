#pragma once

#include <string>

#include "rl/grpo_config.h"

namespace dsft::rl {

/// A sentence for the beginning of a run: where its loss begins, why that says little of the policy, and what the terms
/// of entropy and KL add (docs/grpo.md has the formulas).
std::string explain_loss(const GrpoConfig& config, bool is_on_policy);

}  // namespace dsft::rl
