#include "kernels/sample_tokens_cpu.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "kernels/token_log_probs_rows_cpu.h"

namespace dsft::kernels::cpu {
namespace {

// Scores in a total order: what is no number comes last, and the two zeros are one.
uint32_t key_of(float score) {
  if (std::isnan(score)) return 0;
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

struct Entry {
  uint32_t key;
  int64_t weight;
};

bool is_higher(const Entry& a, const Entry& b) {
  return a.key > b.key;
}

// The key of the k-th highest entry.
uint32_t kth_key(std::vector<Entry>& entries, int64_t k) {
  std::nth_element(entries.begin(), entries.begin() + (k - 1), entries.end(), is_higher);
  return entries[static_cast<size_t>(k - 1)].key;
}

// The key at which the weights, from the highest entry down, reach a share of all.
uint32_t share_key(std::vector<Entry>& entries, double share) {
  int64_t total = 0, sum = 0;
  for (const Entry& entry : entries) total += entry.weight;
  const auto enough = std::max<int64_t>(1, static_cast<int64_t>(std::ceil(share * static_cast<double>(total))));
  std::sort(entries.begin(), entries.end(), is_higher);
  for (const Entry& entry : entries) {
    sum += entry.weight;
    if (sum >= enough) return entry.key;
  }
  return 0;
}

// The key of the lowest score that top-k and top-p leave; what ties with it stays too.
uint32_t lowest_kept(const std::vector<float>& scores, const std::vector<int64_t>& weights, const SamplingRule& rule) {
  std::vector<Entry> entries;
  for (size_t v = 0; v < scores.size(); ++v) entries.push_back({key_of(scores[v]), weights[v]});
  uint32_t lowest = 0;
  if (rule.top_k > 0) {
    lowest = kth_key(entries, rule.top_k);
    std::erase_if(entries, [lowest](const Entry& entry) { return entry.key < lowest; });
  }
  if (rule.top_p < 1) {
    std::erase_if(entries, [](const Entry& entry) { return entry.weight == 0; });
    lowest = std::max(lowest, share_key(entries, rule.top_p));
  }
  return lowest;
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
    const uint32_t lowest = lowest_kept(scores, weights, rule);
    for (size_t v = 0; v < scores.size(); ++v)
      if (key_of(scores[v]) < lowest) weights[v] = 0;
  }
  if (rule.min_p > 0) {
    const auto least = static_cast<int64_t>(std::ceil(rule.min_p * static_cast<double>(kWeightUnit)));
    for (int64_t& weight : weights)
      if (weight < least) weight = 0;
  }
  return weights;
}

float sampling_log_prob(const float* logits, int64_t vocab_size, int64_t token, SamplingRule rule) {
  std::vector<float> scores = sampling_scores(logits, /*seen=*/nullptr, vocab_size, rule);
  float log_prob = 0;
  bool is_argmax = false;
  token_log_probs_rows<float>(scores.data(), &token, &log_prob, &is_argmax, /*makes_gradient=*/false,
                              /*scales=*/nullptr, /*tempered=*/{}, 0, 1, vocab_size);
  return log_prob;
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
