#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "generate/engine.h"
#include "model/causal_lm.h"

namespace dsft::generate {

/// One answer to several prompts: those by which the agents of an ensemble ask the same.
struct PooledRequest {
  std::vector<std::vector<int32_t>> prompts;  ///< [A], each at least one token
};

struct PooledOptions {
  std::vector<double> weights;  ///< [A], with the sum 1
  int64_t max_new_tokens = 256;
  std::vector<int32_t> stop_ids;
  /// As EngineOptions::ends_answer.
  std::function<bool(std::span<const int32_t> answer)> ends_answer;
  std::function<void()> on_step;   ///< called after each token; undefined: nobody asks
  int64_t max_sequences = 96;      ///< prompts that are continued together; those of one request at least
  int64_t prefill_tokens = 4096;   ///< as EngineOptions::prefill_tokens
  double free_memory_share = 0.5;  ///< for keys and values, but at least one request's
  bool isolates_rows = false;      ///< as EngineOptions::isolates_rows
};

/// Greedy answers of an ensemble by its pool of last hidden states: at each step each prompt, followed by the same
/// answer so far, gives the hidden state h_a of its last token behind the final norm (transformers' hidden_states[-1]),
/// and the next token is the likeliest by the head on sum_a w_a h_a. Without gradients, the completions in the order of
/// the requests and without log-probabilities. In fp32 on the CPU, and where rows are isolated, an answer is the same
/// to the bit whatever else is asked for. Throws kDevice where there is no memory for one request.
std::vector<Completion> decode_pooled(model::CausalLm& model, const nn::BlockRunner& runner,
                                      const std::vector<PooledRequest>& requests, const PooledOptions& options);

}  // namespace dsft::generate
