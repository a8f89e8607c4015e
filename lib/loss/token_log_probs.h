#pragma once

#include <torch/types.h>

#include "model/causal_lm.h"

namespace dsft::loss {

/// Log-probabilities of chosen tokens.
struct TokenLogProbs {
  at::Tensor
      log_probs;  ///< fp32 [N]: ln p(target), differentiable in the hidden states and, where it is trained, the head
  at::Tensor is_argmax;       ///< bool [N]: the target was the likeliest token
  at::Tensor entropies = {};  ///< fp32 [N], in nats, of the distributions that the targets are from; where asked for
};

/// Whether entropies are given, and then whether they can be differentiated, as log-probabilities can.
enum class Entropies { kNone, kValues, kDifferentiable };

/// What is asked of the distributions.
struct Distribution {
  double temperature = 1;  ///< logits are divided by it
  Entropies entropies = Entropies::kNone;
  /// Log-probabilities depend on no other row to the bit, and are those of a sampler that isolates rows too: of logits
  /// by kernels::multiply_each_row, with or without a gradient in one order of sums.
  bool isolates_rows = false;
};

/// ln p(targets[i]) after hidden[rows[i]]: the one function behind the loss, `dsft score`, evaluation and reference
/// policies. Runs the final norm and the head as the model's last block, over chunks of rows, and never holds the
/// logits of all of them: what the backward pass needs, the gradient of each log-probability in its own hidden state,
/// is made in the same chunk ([N, H] is kept, not [N, V]). hidden [T, H] before the final norm, rows and targets int64
/// [N]. `dropout`: of the T tokens, for a head with an adapter; empty outside of training.
TokenLogProbs token_log_probs(model::CausalLm& model, const at::Tensor& hidden, const at::Tensor& rows,
                              const at::Tensor& targets, const nn::BlockRunner& runner,
                              const kernels::DropoutKeys& dropout = {}, const Distribution& distribution = {});

/// The same for normalised hidden states [N, H] and a head weight [V, H]. `chunk_rows` <= 0: chosen so that a chunk of
/// logits has about 2^26 elements.
TokenLogProbs linear_log_probs(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                               int64_t chunk_rows = 0, const Distribution& distribution = {});

}  // namespace dsft::loss
