#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::kernels {

/// What one pass over rows of logits gives.
struct TokenStatistics {
  at::Tensor log_probs;       ///< fp32 [R]: logit of the target minus log-sum-exp
  at::Tensor is_argmax;       ///< bool [R]: the target has the largest logit (the first of equal ones counts)
  at::Tensor entropies = {};  ///< fp32 [R] in nats, where they are asked for
};

/// Of a policy that samples: what is asked for besides log-probabilities of the logits as they are.
struct PolicyRows {
  double temperature = 1;          ///< logits are divided by it
  bool wants_entropies = false;    ///< of the distributions at that temperature
  at::Tensor entropy_scales = {};  ///< fp32 [R]: the gradient gets so much of the entropies' own
};

/// For rows of logits [R, V] (any float type) and targets int64 [R]: ln softmax(row)[target] with fp32 sums. With
/// `makes_gradient` the logits are overwritten, in place, by d log_prob / d logits = onehot(target) - softmax, in their
/// own type; times row_scales fp32 [R], where these are given.
TokenStatistics token_log_probs_rows(at::Tensor& logits, const at::Tensor& targets, bool makes_gradient,
                                     const at::Tensor& row_scales = {}, const PolicyRows& policy = {});

}  // namespace dsft::kernels
