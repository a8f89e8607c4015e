#include "rl/adaptive_entropy.h"

#include <torch/types.h>

#include "base/error.h"

namespace dsft::rl {
namespace {

constexpr const char* kCoefficient = "coefficient";  // fp64 [2]: itself, and the last update's entropy

}  // namespace

AdaptiveEntropy::AdaptiveEntropy(const GrpoConfig& config, GrpoLoss& loss) : coefficient_(config), loss_(loss) {}

void AdaptiveEntropy::after_update(train::StepReport& report) {
  coefficient_.update(report.metrics.at("entropy_in_loss"));
  loss_.set_entropy_coefficient(coefficient_.value());
  report.metrics["entropy_coef"] = coefficient_.state().coefficient;
}

std::vector<zero::NamedState> AdaptiveEntropy::state() const {
  const EntropyCoefficient::State& state = coefficient_.state();
  return {{kCoefficient, torch::tensor({state.coefficient, state.last_entropy}, at::kDouble)}};
}

void AdaptiveEntropy::restore(zero::SavedState state) {
  state.expect(kCoefficient, {2}, at::kDouble);
  if (const std::string faults = state.faults(); !faults.empty())
    fail(ErrorKind::kCheckpoint, "the saved state of ", name(), " is not what this version writes:", faults);
  const at::Tensor values = torch::empty({2}, at::kDouble);
  state.copy(kCoefficient, 0, values);
  coefficient_.restore({values[0].item<double>(), values[1].item<double>()});
  loss_.set_entropy_coefficient(coefficient_.value());
}

}  // namespace dsft::rl
