#pragma once

#include "rl/entropy_coefficient.h"
#include "rl/grpo_loss.h"
#include "train/update_callback.h"

namespace dsft::rl {

/// Gives the loss its EntropyCoefficient from update to update, by the entropy of each (its metric entropy_in_loss,
/// over all ranks). Reports entropy_coef: what the coefficient is after an update, in force or not, as TRL does.
class AdaptiveEntropy final : public train::UpdateCallback {
 public:
  /// Borrows the loss.
  AdaptiveEntropy(const GrpoConfig& config, GrpoLoss& loss);

  std::string name() const override { return "grpo.use_adaptive_entropy"; }
  void after_update(train::StepReport& report) override;
  std::vector<zero::NamedState> state() const override;
  void restore(zero::SavedState state) override;

 private:
  EntropyCoefficient coefficient_;
  GrpoLoss& loss_;
};

}  // namespace dsft::rl
