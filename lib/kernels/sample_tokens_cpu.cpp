#include "kernels/sample_tokens_cpu.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace dsft::kernels::cpu {
namespace {

// The lowest score that stays, for scores in falling order with their weights.
float lowest_kept(const std::vector<float>& scores, const std::vector<int64_t>& weights, const SamplingRule& rule) {
  auto last = static_cast<int64_t>(scores.size());  // one behind the last that stays
  if (rule.top_k > 0) last = rule.top_k;
  // what ties with the last one stays too
  while (last < static_cast<int64_t>(scores.size()) && scores[last] == scores[last - 1]) ++last;
  if (rule.top_p < 1) {
    const int64_t total = std::accumulate(weights.begin(), weights.begin() + last, int64_t{0});
    const auto enough = std::max<int64_t>(1, static_cast<int64_t>(std::ceil(rule.top_p * static_cast<double>(total))));
    int64_t above = 0;
    for (int64_t i = 0; i < last; ++i) {
      above += weights[i];
      if (above < enough) continue;
      last = i + 1;
      break;
    }
  }
  return scores[last - 1];
}

}  // namespace

std::vector<float> sampling_scores(const float* logits, const int32_t* seen, int64_t vocab_size,
                                   const SamplingRule& rule) {
  std::vector<float> scores(logits, logits + vocab_size);
  for (int64_t v = 0; v < vocab_size; ++v) {
    float& score = scores[v];
    if (seen != nullptr && (static_cast<uint32_t>(seen[v / 32]) >> (v % 32) & 1) != 0)
      score = score < 0 ? score * rule.repetition_penalty : score / rule.repetition_penalty;
    if (!rule.is_greedy) score *= rule.inverse_temperature;
  }
  return scores;
}

std::vector<int64_t> sampling_weights(const std::vector<float>& scores, const SamplingRule& rule) {
  const float highest = *std::max_element(scores.begin(), scores.end());
  std::vector<int64_t> weights;
  for (const float score : scores) {
    const float weight = std::exp(score - highest) * kWeightUnit;
    weights.push_back(weight >= 1 ? static_cast<int64_t>(weight) : 0);  // 0 too where a score is no number
  }
  if (rule.top_k > 0 || rule.top_p < 1) {
    std::vector<int64_t> order(scores.size());
    std::iota(order.begin(), order.end(), int64_t{0});
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
    std::vector<float> falling;
    std::vector<int64_t> falling_weights;
    for (const int64_t v : order) {
      falling.push_back(scores[v]);
      falling_weights.push_back(weights[v]);
    }
    const float lowest = lowest_kept(falling, falling_weights, rule);
    for (size_t v = 0; v < scores.size(); ++v)
      if (scores[v] < lowest) weights[v] = 0;
  }
  if (rule.min_p > 0) {
    const auto least = static_cast<int64_t>(std::ceil(rule.min_p * static_cast<double>(kWeightUnit)));
    for (int64_t& weight : weights)
      if (weight < least) weight = 0;
  }
  return weights;
}

int64_t draw_token(const std::vector<int64_t>& weights, double uniform) {
  const int64_t total = std::accumulate(weights.begin(), weights.end(), int64_t{0});
  // rounding can push the product to the very end
  const int64_t point = std::min(static_cast<int64_t>(uniform * static_cast<double>(total)), total - 1);
  int64_t sum = 0;
  for (size_t v = 0; v < weights.size(); ++v) {
    sum += weights[v];
    if (sum > point) return static_cast<int64_t>(v);
  }
  return 0;  // scores that are not numbers have no weights
}

}  // namespace dsft::kernels::cpu
