#pragma once

#include <limits>

#include "rl/grpo_config.h"

namespace dsft::rl {

/// The weight of the entropy term from update to update: constant, or, where it adapts, moved up by entropy_coef_delta
/// after an update whose entropy was at most entropy_target, down after another, and in force only after the former.
class EntropyCoefficient {
 public:
  /// What a run that continues needs, as TRL saves it.
  struct State {
    double coefficient = 0;
    double last_entropy = std::numeric_limits<double>::infinity();
  };

  explicit EntropyCoefficient(const GrpoConfig& config) : config_(config), state_{config.entropy_coef} {}

  /// For the next update (GrpoLoss::set_entropy_coefficient).
  double value() const;
  /// Takes an update's mean entropy of the tokens that the term takes: its metric entropy_in_loss.
  void update(double entropy);

  const State& state() const { return state_; }
  void restore(const State& state) { state_ = state; }

 private:
  GrpoConfig config_;
  State state_;
};

}  // namespace dsft::rl
