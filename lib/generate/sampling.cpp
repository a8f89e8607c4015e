#include "generate/sampling.h"

#include <algorithm>

#include "base/error.h"

namespace dsft::generate {
namespace {

std::vector<int32_t> to_ids(const at::Tensor& tokens) {
  const at::Tensor host = tokens.to(at::kCPU, at::kInt).contiguous();
  const int32_t* data = host.const_data_ptr<int32_t>();
  return {data, data + host.numel()};
}

// Inverse of the distribution function at each uniform: the number of columns whose running sum does not reach beyond
// it.
at::Tensor draw_columns(const at::Tensor& probabilities, const std::vector<double>& uniforms) {
  const at::Tensor sums = probabilities.to(at::kDouble).cumsum(1);
  const at::Tensor total = sums.select(1, sums.size(1) - 1).unsqueeze(1);
  const at::Tensor points = torch::tensor(uniforms, at::kDouble).to(sums.device()).unsqueeze(1) * total;
  const at::Tensor columns = sums.le(points).sum(1, /*keepdim=*/true);
  // rounding can push a point to the very end, behind which only tokens without probability may stand
  const at::Tensor last = sums.lt(total).sum(1, /*keepdim=*/true);
  return at::minimum(columns, last);
}

}  // namespace

SamplingOptions sampling_of(const spec::GenerationDefaults& defaults) {
  SamplingOptions options;
  options.temperature = defaults.do_sample ? defaults.temperature.value_or(1.0) : 0.0;
  options.top_k = defaults.top_k.value_or(0);
  options.top_p = defaults.top_p.value_or(1.0);
  options.min_p = defaults.min_p.value_or(0.0);
  options.repetition_penalty = defaults.repetition_penalty.value_or(1.0);
  return options;
}

Candidates filter_candidates(const at::Tensor& logits, const SamplingOptions& options) {
  DSFT_CHECK(options.temperature > 0, "temperature ", options.temperature);
  const at::Tensor scores = logits.to(at::kFloat) / options.temperature;
  const bool filters_k = options.top_k > 0 && options.top_k < scores.size(1), filters_p = options.top_p < 1.0;
  if (!filters_k && !filters_p && options.min_p <= 0) return {at::softmax(scores, 1), {}};
  const auto [values, ids] = filters_k ? scores.topk(options.top_k, 1) : scores.sort(1, /*descending=*/true);
  at::Tensor probabilities = at::softmax(values, 1);
  if (filters_p) {
    // a token stays while those above it hold less than top_p; the first always stays
    at::Tensor is_kept = (probabilities.cumsum(1) - probabilities).lt(options.top_p);
    is_kept.select(1, 0).fill_(true);
    probabilities = probabilities * is_kept;
  }
  if (options.min_p > 0)
    probabilities = probabilities * probabilities.ge(probabilities.select(1, 0).unsqueeze(1) * options.min_p);
  return {probabilities, ids};
}

void penalise_repetition(at::Tensor& logits, const std::vector<std::span<const int32_t>>& histories, double penalty) {
  for (size_t s = 0; s < histories.size(); ++s) {
    const std::vector<int64_t> ids(histories[s].begin(), histories[s].end());
    const at::Tensor index = torch::tensor(ids, at::kLong).to(logits.device());
    at::Tensor row = logits[static_cast<int64_t>(s)];
    // a token that occurs twice is written twice with the same value
    const at::Tensor scores = row.index_select(0, index);
    row.index_copy_(0, index, at::where(scores.lt(0), scores * penalty, scores / penalty));
  }
}

std::vector<int32_t> choose_tokens(const at::Tensor& logits, const std::vector<std::span<const int32_t>>& histories,
                                   const std::vector<double>& uniforms, const SamplingOptions& options) {
  at::Tensor scores = logits;
  if (options.repetition_penalty != 1.0) {
    scores = logits.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
    penalise_repetition(scores, histories, options.repetition_penalty);
  }
  if (options.temperature <= 0) return to_ids(scores.argmax(1));
  const Candidates candidates = filter_candidates(scores, options);
  const at::Tensor columns = draw_columns(candidates.probabilities, uniforms);
  return to_ids((candidates.ids.defined() ? candidates.ids.gather(1, columns) : columns).squeeze(1));
}

}  // namespace dsft::generate
