#pragma once

#include <torch/types.h>

#include "batch/policy_targets.h"

namespace dsft::rl {

/// Sums over the tokens of each row: fp32 [N] -> [R]. Differentiable, and in one order always, as spread_rows.
at::Tensor sum_rows(const at::Tensor& of_tokens, const PolicyTargets& policy);

/// Each row's value to its tokens: fp32 [R] -> [N].
at::Tensor spread_rows(const at::Tensor& of_rows, const PolicyTargets& policy);

}  // namespace dsft::rl
