#pragma once

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "batch/padded_batch.h"
#include "comm/single_process_communicator.h"
#include "rl/grpo_loss.h"
#include "support/tiny_model.h"

namespace dsft::test {

/// What an update of these micro-batches computes, as TrainingStep would.
struct Update {
  double loss = 0;
  std::map<std::string, double> metrics;
  at::Tensor gradient;  ///< [N, H]: of the hidden states that predict a supervised token, micro-batch after micro-batch
};

inline Update compute_update(model::CausalLm& lm, const rl::GrpoConfig& config, const std::vector<Batch>& batches) {
  const rl::GrpoLoss loss(config, at::kCPU);
  const nn::BlockRunner runner;
  const model::TrainingMode mode{7};
  std::vector<double> denominators = loss.counts(batches);
  for (double& value : denominators) value = value == 0 ? 1 : value;
  Update update;
  std::vector<at::Tensor> gradients;
  for (const Batch& batch : batches) {
    const at::Tensor hidden = lm.hidden_states(batch, runner, &mode).detach().requires_grad_(true);
    const loss::LossResult result = loss.compute(lm, hidden, batch, runner, &mode);
    at::Tensor objective = torch::zeros({});
    for (const loss::Sum& term : result.terms) objective = objective + term.value / denominators[term.denominator];
    objective.backward();
    update.loss += objective.item<double>();
    for (const loss::Sum& metric : result.metrics)
      update.metrics[metric.name] += metric.value.item<double>() / denominators[metric.denominator];
    for (const loss::Extreme& extreme : result.extremes) {
      const double value = extreme.value.item<double>();
      if (!std::isfinite(value)) continue;
      const auto [entry, is_new] = update.metrics.emplace(extreme.name, value);
      if (!is_new) entry->second = extreme.is_largest ? std::max(entry->second, value) : std::min(entry->second, value);
    }
    // repeated tokens of a padded batch lie behind the last row's
    const int64_t num_tokens = batch.policy ? batch.policy->row_starts[-1].item<int64_t>() : 0;
    gradients.push_back(hidden.grad().index_select(0, batch.supervised.narrow(0, 0, num_tokens) - 1));
  }
  update.gradient = torch::cat(gradients);
  return update;
}

}  // namespace dsft::test
