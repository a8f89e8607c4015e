#pragma once

#include <torch/types.h>

#include <cstdint>
#include <span>
#include <vector>

#include "spec/generation_defaults.h"

namespace dsft::generate {

/// How the next token is chosen. The steps come in transformers' order: repetition penalty, temperature, top-k, top-p,
/// min-p; a value that changes nothing is a step left out.
struct SamplingOptions {
  double temperature = 0.0;  ///< 0: greedy, the filters below have no effect
  int64_t top_k = 0;         ///< 0: all tokens
  double top_p = 1.0;
  double min_p = 0.0;
  double repetition_penalty = 1.0;  ///< also in greedy search, over prompt and answer
};

/// What a checkpoint's generation_config.json asks for; keys that it does not have filter nothing.
SamplingOptions sampling_of(const spec::GenerationDefaults& defaults);

/// The tokens that may come next.
struct Candidates {
  at::Tensor probabilities;  ///< fp32 [S, C], not normalised where a filter took tokens away (those are 0)
  at::Tensor ids;            ///< int64 [S, C]; undefined: column c is token c
};

/// logits [S, V] -> candidates; temperature > 0.
Candidates filter_candidates(const at::Tensor& logits, const SamplingOptions& options);

/// Divides the positive and multiplies the negative logits of all tokens of a sequence's history, in place (Keskar et
/// al. 2019). logits fp32 [S, V].
void penalise_repetition(at::Tensor& logits, const std::vector<std::span<const int32_t>>& histories, double penalty);

/// The next token of each sequence. logits [S, V] of any float type; `uniforms` [S] in [0, 1) decide the draws (unused
/// in greedy search); `histories` are read where there is a repetition penalty.
std::vector<int32_t> choose_tokens(const at::Tensor& logits, const std::vector<std::span<const int32_t>>& histories,
                                   const std::vector<double>& uniforms, const SamplingOptions& options);

}  // namespace dsft::generate
