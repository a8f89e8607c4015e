#include "rl/grpo_loss.h"

#include <limits>

#include "base/error.h"
#include "device/device.h"
#include "loss/token_log_probs.h"
#include "rl/entropy_coefficient.h"
#include "rl/policy_terms.h"
#include "rl/row_sums.h"

namespace dsft::rl {
namespace {

enum Denominator : size_t { kTokens, kRows, kKeptTokens };

// Of a rank without an item.
PolicyTargets no_rows(const at::Tensor& like) {
  const at::TensorOptions numbers = like.options().dtype(at::kFloat), indices = like.options().dtype(at::kLong);
  PolicyTargets policy;
  policy.rows = torch::empty({0}, indices);
  policy.row_starts = torch::zeros({2}, indices);
  policy.row_weights = torch::zeros({1}, numbers);
  policy.advantages = torch::zeros({1}, numbers);
  return policy;
}

// The sum of what the update divides by its rows or its tokens.
loss::Sum reduced(const ScoredTokens& tokens, const PolicyTerms& terms, const PolicyTargets& policy,
                  const GrpoConfig& config) {
  const at::Tensor weighed = terms.loss * tokens.weights;
  switch (config.loss_type) {
    case LossType::kGrpo:
    case LossType::kSapo:
      return {"policy_loss", (weighed / terms.lengths.index_select(0, policy.rows)).sum(), kRows};
    case LossType::kDrGrpo:
      return {"policy_loss", weighed.sum() / static_cast<double>(config.max_completion_length), kRows};
    case LossType::kLuspo:
      return {"policy_loss", weighed.sum(), kRows};
    case LossType::kBnpo:
    case LossType::kDapo:
    case LossType::kCispo:
    case LossType::kVespo:
      break;
  }
  return {"policy_loss", weighed.sum(), kTokens};
}

/// Counts of clipped ratios: of tokens, or of sequences at their level.
class Clips {
 public:
  Clips(const ScoredTokens& tokens, const PolicyTerms& terms, const PolicyTargets& policy, const GrpoConfig& config)
      : tokens_(tokens),
        terms_(terms),
        policy_(policy),
        is_sequence_(config.importance_sampling_level == ImportanceSamplingLevel::kSequence),
        advantages_(is_sequence_ ? policy.advantages : policy.advantages.index_select(0, policy.rows)) {}

  at::Tensor below(double bound) const { return terms_.ratios.lt(bound).logical_and(advantages_.lt(0)); }
  at::Tensor above(double bound) const { return terms_.ratios.gt(bound).logical_and(advantages_.gt(0)); }

  loss::Sum mean(const char* name, const at::Tensor& is_clipped) const {
    const at::Tensor& weights = is_sequence_ ? policy_.row_weights : tokens_.weights;
    return {name, (is_clipped * weights).sum(), is_sequence_ ? kRows : kTokens};
  }

  /// The largest or smallest share of a row. At the level of tokens a row without any has none.
  loss::Extreme extreme(const char* name, const at::Tensor& is_clipped, bool is_largest) const {
    at::Tensor shares, is_valid = policy_.row_weights.gt(0);
    if (is_sequence_) {
      shares = is_clipped.to(at::kFloat);
    } else {
      shares = sum_rows(is_clipped * tokens_.weights, policy_) / terms_.lengths;
      is_valid = is_valid.logical_and(sum_rows(tokens_.weights, policy_).gt(0));
    }
    const double none = (is_largest ? -1 : 1) * std::numeric_limits<double>::infinity();
    const at::Tensor valid = shares.masked_fill(is_valid.logical_not(), none);
    return {name, is_largest ? valid.max() : valid.min(), is_largest};
  }

 private:
  const ScoredTokens& tokens_;
  const PolicyTerms& terms_;
  const PolicyTargets& policy_;
  bool is_sequence_;
  at::Tensor advantages_;
};

void add_clips(const Clips& clips, const PolicyTerms& terms, const PolicyTargets& policy, const GrpoConfig& config,
               loss::LossResult& result) {
  switch (config.loss_type) {
    case LossType::kSapo:
      return;
    case LossType::kCispo:
      result.metrics.push_back(clips.mean("cispo_clip_ratio", clips.above(config.upper_epsilon())));
      return;
    case LossType::kVespo:
      result.metrics.push_back({"vespo/phi_seq_mean", (terms.row_weights * policy.row_weights).sum(), kRows});
      return;
    case LossType::kGrpo:
    case LossType::kBnpo:
    case LossType::kDrGrpo:
    case LossType::kDapo:
    case LossType::kLuspo:
      break;
  }
  const at::Tensor low = clips.below(1 - config.epsilon), high = clips.above(1 + config.upper_epsilon());
  result.metrics.push_back(clips.mean("clip_ratio/low_mean", low));
  result.metrics.push_back(clips.mean("clip_ratio/high_mean", high));
  result.metrics.push_back(clips.mean("clip_ratio/region_mean", low.logical_or(high)));
  result.extremes.push_back(clips.extreme("clip_ratio/low_min", low, /*is_largest=*/false));
  result.extremes.push_back(clips.extreme("clip_ratio/high_max", high, /*is_largest=*/true));
}

// How far what the sampler said of its tokens is from what the trainer says of them, before the round's updates.
void add_sampler_gap(const ScoredTokens& tokens, const PolicyTargets& policy, loss::LossResult& result) {
  const at::Tensor trained = policy.old_log_probs.defined() ? policy.old_log_probs : tokens.log_probs.detach();
  const at::Tensor gap = policy.sampling_log_probs.defined() ? trained - policy.sampling_log_probs : trained - trained;
  const at::Tensor counted = gap.abs().masked_fill(tokens.weights.le(0), -std::numeric_limits<double>::infinity());
  const char* const name = "sampling/sampling_logp_difference/";
  result.metrics.push_back({concat(name, "mean"), (gap.abs() * tokens.weights).sum(), kTokens});
  result.metrics.push_back({concat(name, "signed_mean"), (gap * tokens.weights).sum(), kTokens});
  result.extremes.push_back(
      {concat(name, "max"),
       counted.numel() > 0 ? counted.max() : torch::full({}, -std::numeric_limits<double>::infinity(), gap.options()),
       /*is_largest=*/true});
}

double sum_of(const at::Tensor& tensor) {
  return tensor.sum(at::kDouble).item<double>();
}

}  // namespace

GrpoLoss::GrpoLoss(const GrpoConfig& config, at::Device device, bool compares_sampler)
    : config_(config),
      compares_sampler_(compares_sampler),
      entropy_coefficient_(torch::full({}, EntropyCoefficient(config).value(), at::TensorOptions(device))) {}

std::vector<double> GrpoLoss::counts(const std::vector<Batch>& micro_batches) const {
  std::vector<double> counts(3, 0.0);
  for (const Batch& batch : micro_batches) {
    if (!batch.policy) continue;
    const at::Tensor weights = batch.weights.defined() ? batch.weights : torch::ones({batch.supervised.numel()});
    const at::Tensor& mask = batch.policy->entropy_mask;
    counts[kTokens] += sum_of(weights);
    counts[kRows] += sum_of(batch.policy->row_weights);
    counts[kKeptTokens] += sum_of(mask.defined() ? weights * mask : weights);
  }
  return counts;
}

loss::LossResult GrpoLoss::compute(model::CausalLm& model, const at::Tensor& hidden, const Batch& batch,
                                   const nn::BlockRunner& runner, const model::TrainingMode* training) const {
  DSFT_CHECK(batch.policy || batch.supervised.numel() == 0, "a batch without a policy's targets");
  const PolicyTargets policy = batch.policy ? *batch.policy : no_rows(batch.supervised);
  const loss::SupervisedTokens supervised = loss::supervised_tokens(batch);
  const auto entropies = config_.has_entropy_bonus() ? loss::Entropies::kDifferentiable : loss::Entropies::kValues;
  const loss::TokenLogProbs scores =
      loss::token_log_probs(model, hidden, supervised.rows, supervised.targets, runner,
                            model::dropout_keys(batch, model.has_head_dropout() ? training : nullptr),
                            {config_.temperature, entropies, !policy.prompt_lengths.empty()});
  const ScoredTokens tokens{scores.log_probs, scores.entropies,
                            batch.weights.defined() ? batch.weights : torch::ones_like(scores.entropies)};
  const PolicyTerms terms = policy_terms(tokens, policy, config_);

  loss::LossResult result;
  result.terms.push_back(reduced(tokens, terms, policy, config_));
  if (config_.has_entropy_bonus()) {
    const at::Tensor kept = policy.entropy_mask.defined() ? tokens.weights * policy.entropy_mask : tokens.weights;
    const at::Tensor sum = (tokens.entropies * kept).sum();
    result.metrics.push_back(result.terms.front());
    result.metrics.push_back({"entropy_in_loss", sum, kKeptTokens});
    result.terms.push_back({"entropy", -entropy_coefficient_ * sum, kKeptTokens});
  }
  if (terms.kl.defined()) result.metrics.push_back({"kl", (terms.kl * tokens.weights).sum(), kTokens});
  result.metrics.push_back({"entropy", (tokens.entropies * tokens.weights).sum(), kTokens});
  add_clips(Clips(tokens, terms, policy, config_), terms, policy, config_, result);
  if (compares_sampler_) add_sampler_gap(tokens, policy, result);
  return result;
}

void GrpoLoss::set_entropy_coefficient(double value) {
  device::copy_from_host(torch::full({}, value, at::kFloat), entropy_coefficient_);
}

}  // namespace dsft::rl
