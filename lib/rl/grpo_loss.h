#pragma once

#include "loss/loss.h"
#include "rl/grpo_config.h"

namespace dsft::rl {

/// The policy's loss on sampled completions, with its KL and entropy terms (docs/grpo.md). Batches carry PolicyTargets;
/// one without a supervised token may lack them. Denominators: 0 the weights of tokens, 1 rows, 2 tokens that the
/// entropy mask keeps.
///
/// Metrics, by TRL's names: entropy; kl with beta; clip_ratio/{low_mean, high_mean, region_mean, low_min, high_max},
/// cispo_clip_ratio or vespo/phi_seq_mean; with an entropy term policy_loss and entropy_in_loss, the mean over the
/// tokens that it takes; with `compares_sampler` sampling/sampling_logp_difference/{mean, signed_mean, max}, the
/// distance from what the sampler said of its tokens to the old log-probabilities, or to those of the pass itself, its
/// dropout included.
class GrpoLoss final : public loss::Loss {
 public:
  GrpoLoss(const GrpoConfig& config, at::Device device, bool compares_sampler = false);

  std::vector<double> counts(const std::vector<Batch>& micro_batches) const override;
  loss::LossResult compute(model::CausalLm& model, const at::Tensor& hidden, const Batch& batch,
                           const nn::BlockRunner& runner, const model::TrainingMode* training) const override;
  bool can_be_recorded() const override { return true; }
  bool may_be_empty() const override { return true; }

  /// The weight of the entropy term from the next update on; where it adapts, EntropyCoefficient says it.
  void set_entropy_coefficient(double value);

 private:
  GrpoConfig config_;
  bool compares_sampler_;
  at::Tensor entropy_coefficient_;  // fp32, 0-d, at one address: recorded passes read it
};

}  // namespace dsft::rl
