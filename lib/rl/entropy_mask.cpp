#include "rl/entropy_mask.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "comm/small_collectives.h"

namespace dsft::rl {
namespace {

// No entropy is below 0: what fills the ranks' lists to one length.
constexpr float kFill = -1;

// All ranks' values. Collective.
std::vector<float> gather_values(const std::vector<float>& own, comm::Communicator& communicator) {
  const auto size = static_cast<int64_t>(own.size());
  const int64_t longest = comm::all_reduce_value(communicator, size, comm::ReduceOp::kMax);
  if (longest == 0) return {};
  at::Tensor mine = torch::full({longest}, kFill), all = torch::empty({longest * communicator.size()});
  std::copy(own.begin(), own.end(), mine.data_ptr<float>());
  communicator.all_gather(all, mine);
  std::vector<float> values(all.const_data_ptr<float>(), all.const_data_ptr<float>() + all.numel());
  std::erase(values, kFill);
  return values;
}

// torch.quantile's, between two values by their distance; NaN where one of them is NaN. `values` is not empty.
float quantile_of(std::vector<float> values, double quantile) {
  const auto is_nan = [](float value) { return std::isnan(value); };
  if (std::any_of(values.begin(), values.end(), is_nan)) return std::numeric_limits<float>::quiet_NaN();
  std::sort(values.begin(), values.end());
  const float rank = static_cast<float>(quantile) * static_cast<float>(values.size() - 1);
  const auto below = static_cast<size_t>(std::floor(rank));
  const float low = values[below], high = values[std::min(below + 1, values.size() - 1)];
  return std::lerp(low, high, rank - static_cast<float>(below));
}

}  // namespace

void mask_low_entropy(std::vector<Batch>& micro_batches, const std::vector<at::Tensor>& entropies, double share,
                      comm::Communicator& communicator) {
  DSFT_CHECK(micro_batches.size() == entropies.size(), entropies.size(), " lists of entropies for ",
             micro_batches.size(), " micro-batches");
  std::vector<at::Tensor> on_host, counts;
  std::vector<float> own;
  for (size_t b = 0; b < micro_batches.size(); ++b) {
    const Batch& batch = micro_batches[b];
    on_host.push_back(entropies[b].to(at::kCPU, at::kFloat).contiguous());
    counts.push_back(batch.weights.defined() ? batch.weights.gt(0)
                                             : torch::ones({batch.supervised.numel()}, at::kBool));
    DSFT_CHECK(on_host[b].numel() == counts[b].numel(), on_host[b].numel(), " entropies of ", counts[b].numel(),
               " tokens");
    const at::Tensor valid = on_host[b].masked_select(counts[b]);
    own.insert(own.end(), valid.const_data_ptr<float>(), valid.const_data_ptr<float>() + valid.numel());
  }
  std::vector<float> values = gather_values(own, communicator);
  const float threshold = values.empty() ? 0.0f : quantile_of(std::move(values), 1 - share);
  for (size_t b = 0; b < micro_batches.size(); ++b)
    if (micro_batches[b].policy)
      micro_batches[b].policy->entropy_mask = on_host[b].ge(threshold).logical_and(counts[b]).to(at::kFloat);
}

}  // namespace dsft::rl
