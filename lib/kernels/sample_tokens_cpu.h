#pragma once

#include <cstdint>
#include <vector>

namespace dsft::kernels::cpu {

/// SamplingOptions as a kernel reads them; top_k is 0 or at most the vocabulary's size.
struct SamplingRule {
  bool is_greedy;
  float inverse_temperature;
  int64_t top_k;
  double top_p, min_p;
  float repetition_penalty;
};

/// Weight 1 of a token; the sum over a vocabulary of kMostTokens stays below 2^63.
constexpr float kWeightUnit = 0x1p40f;
constexpr int64_t kMostTokens = int64_t{1} << 21;

/// Scores of one row: logits after penalty and temperature.
std::vector<float> sampling_scores(const float* logits, const int32_t* seen, int64_t vocab_size,
                                   const SamplingRule& rule);

/// Weights of one row's scores, 0 where a filter takes the token away.
std::vector<int64_t> sampling_weights(const std::vector<float>& scores, const SamplingRule& rule);

/// ln of a token's share of softmax(logits / temperature), without penalty and filters: what token_log_probs_rows gives
/// for these scores.
float sampling_log_prob(const float* logits, int64_t vocab_size, int64_t token, SamplingRule rule);

/// The token that `uniform` in [0, 1) draws.
int64_t draw_token(const std::vector<int64_t>& weights, double uniform);

}  // namespace dsft::kernels::cpu
