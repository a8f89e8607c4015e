#include "rl/policy_terms.h"

#include <cmath>

#include "base/error.h"
#include "rl/row_sums.h"

namespace dsft::rl {
namespace {

// vespo's bounds of logarithms.
constexpr double kMostLogRatio = 20;
const double kLeastLogWeight = std::log(1e-8);
constexpr double kLeastLambda = 1e-4;

at::Tensor row_means(const at::Tensor& of_tokens, const ScoredTokens& tokens, const PolicyTargets& policy,
                     const at::Tensor& lengths) {
  return sum_rows(of_tokens * tokens.weights, policy) / lengths;
}

// Gamma weights [R]: e^lambda w^k e^(-lambda w), w the ratio of whole sequences.
at::Tensor gamma_weights(const at::Tensor& log_ratios, const ScoredTokens& tokens, const PolicyTargets& policy,
                         const GrpoConfig& config) {
  const at::Tensor clamped = log_ratios.detach().clamp(-kMostLogRatio, kMostLogRatio);
  const at::Tensor log_weights = sum_rows(clamped * tokens.weights, policy).clamp(kLeastLogWeight, kMostLogRatio);
  const at::Tensor is_positive = policy.advantages.ge(0);
  const at::Tensor ones = torch::ones_like(policy.advantages);
  const at::Tensor k = torch::where(is_positive, ones * config.vespo_k_pos, ones * config.vespo_k_neg);
  const at::Tensor lambda =
      torch::where(is_positive, ones * config.vespo_lambda_pos, ones * config.vespo_lambda_neg).clamp_min(kLeastLambda);
  return (lambda + k * log_weights - lambda * log_weights.exp()).exp().nan_to_num(0.0, 0.0, 0.0);
}

// 1 for rows to keep, else 0: those of a negative advantage that the sampler held likelier by more than the threshold.
at::Tensor near_policy_rows(const ScoredTokens& tokens, const PolicyTargets& policy, const at::Tensor& old_log_probs,
                            const at::Tensor& lengths, double threshold) {
  const at::Tensor& sampled = policy.sampling_log_probs.defined() ? policy.sampling_log_probs : old_log_probs;
  const at::Tensor gaps = (sampled - tokens.log_probs.detach()).nan_to_num(0.0);
  const at::Tensor is_near = row_means(gaps, tokens, policy, lengths).le(threshold);
  return policy.advantages.ge(0).logical_or(is_near).to(at::kFloat);
}

}  // namespace

PolicyTerms policy_terms(const ScoredTokens& tokens, const PolicyTargets& policy, const GrpoConfig& config) {
  const at::Tensor& log_probs = tokens.log_probs;
  const at::Tensor old_log_probs = policy.old_log_probs.defined() ? policy.old_log_probs : log_probs.detach();
  const at::Tensor log_ratios = log_probs - old_log_probs;
  const at::Tensor advantages = policy.advantages.index_select(0, policy.rows);
  const bool is_sequence = config.importance_sampling_level == ImportanceSamplingLevel::kSequence;
  PolicyTerms terms;
  terms.lengths = sum_rows(tokens.weights, policy).clamp_min(1);
  const at::Tensor ratio_source =
      (is_sequence ? row_means(log_ratios, tokens, policy, terms.lengths) : log_ratios).exp();
  terms.ratios = ratio_source.detach();
  const at::Tensor ratios = is_sequence ? spread_rows(ratio_source, policy) : ratio_source;
  switch (config.loss_type) {
    case LossType::kCispo:
      terms.loss = -ratios.clamp_max(config.upper_epsilon()).detach() * advantages * log_probs;
      break;
    case LossType::kSapo: {
      const at::Tensor temperatures =
          torch::where(advantages.gt(0), torch::full_like(advantages, config.sapo_temperature_pos),
                       torch::full_like(advantages, config.sapo_temperature_neg));
      terms.loss = -torch::sigmoid(temperatures * (ratios - 1)) * 4 / temperatures * advantages;
      break;
    }
    case LossType::kVespo:
      terms.row_weights = gamma_weights(log_ratios, tokens, policy, config);
      terms.loss = -terms.row_weights.index_select(0, policy.rows) * advantages * log_probs;
      break;
    case LossType::kGrpo:
    case LossType::kBnpo:
    case LossType::kDrGrpo:
    case LossType::kDapo:
    case LossType::kLuspo: {
      const at::Tensor clipped = ratios.clamp(1 - config.epsilon, 1 + config.upper_epsilon());
      const at::Tensor bounded = config.delta ? ratios.clamp_max(*config.delta) : ratios;
      if (config.delta) terms.ratios = terms.ratios.clamp_max(*config.delta);
      terms.loss = -torch::min(bounded * advantages, clipped * advantages);
      break;
    }
  }
  if (config.off_policy_mask_threshold)
    terms.loss =
        terms.loss * near_policy_rows(tokens, policy, old_log_probs, terms.lengths, *config.off_policy_mask_threshold)
                         .index_select(0, policy.rows);
  if (policy.entropy_mask.defined()) terms.loss = terms.loss * policy.entropy_mask;
  if (config.beta != 0) {
    // a stand-in without tokens has no reference either
    DSFT_CHECK(policy.reference_log_probs.defined() || log_probs.numel() == 0, "a batch without reference log-probs");
    const at::Tensor gaps =
        (policy.reference_log_probs.defined() ? policy.reference_log_probs : log_probs.detach()) - log_probs;
    terms.kl = gaps.exp() - gaps - 1;
    if (config.use_bias_correction_kl) terms.kl = terms.kl * ratios;
    terms.loss = terms.loss + config.beta * terms.kl;
  }
  return terms;
}

}  // namespace dsft::rl
