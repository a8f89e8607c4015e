// What of a ShardedOptimizer is saved and taken back.
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "zero/part_name.h"
#include "zero/sharded_optimizer.h"

namespace dsft::zero {
namespace {

constexpr const char* kAppliedUpdates = "applied_updates";
constexpr const char* kLossScaler = "loss_scaler";
constexpr int64_t kScalerValues = 4;

optim::LossScaler::State saved_scaler(const SavedState& saved) {
  double values[kScalerValues];
  saved.copy(kLossScaler, 0, at::from_blob(values, {kScalerValues}, at::kDouble));
  return {values[0], static_cast<int64_t>(values[1]), static_cast<int64_t>(values[2]), static_cast<int64_t>(values[3])};
}

}  // namespace

std::vector<NamedState> ShardedOptimizer::state() const {
  const ShardPlan& plan = flat_.plan();
  const bool has_the_rest = communicator_.rank() == 0;
  if (!has_the_rest && !plan.is_sharded()) return {};
  std::vector<NamedState> state;
  if (host_) host_->wait_for_all();
  const auto add = [&](const std::string& name, const at::Tensor& part, int64_t index) {
    if (!plan.bucket_of(index).is_sharded || plan.num_ranks() == 1) {
      if (has_the_rest) state.push_back({name, part.detach().view(flat_[index].parameter.sizes())});
    } else if (part.numel() > 0) {
      state.push_back({to_text({name, plan.own_part(index).begin - plan.offset(index)}), part.detach()});
    }
  };
  for (int64_t index = 0; index < flat_.num_parameters(); ++index)
    for (const StateKind& kind : kinds_of(index)) add(flat_[index].name + kind.suffix, kind.part, index);
  // every rank's part says how far it is
  state.push_back({kAppliedUpdates, num_applied_updates_.cpu().clone()});
  if (loss_scaler_ && has_the_rest) {
    const optim::LossScaler::State& scaler = loss_scaler_->state();
    state.push_back({kLossScaler, at::tensor({scaler.scale, static_cast<double>(scaler.iteration),
                                              static_cast<double>(scaler.last_overflow_iteration),
                                              static_cast<double>(scaler.hysteresis)},
                                             at::kDouble)});
  }
  return state;
}

// Of single values that no run can have written.
std::string ShardedOptimizer::faults_of_values(const SavedState& saved) const {
  constexpr int64_t kMostUpdates = int64_t{1} << 40;
  std::string faults;
  int64_t updates = 0;
  saved.copy(kAppliedUpdates, 0, at::from_blob(&updates, {1}, at::kLong));
  if (updates < 0 || updates > kMostUpdates) faults += concat("\n  ", kAppliedUpdates, " is ", updates);
  if (!loss_scaler_) return faults;
  double values[kScalerValues];
  saved.copy(kLossScaler, 0, at::from_blob(values, {kScalerValues}, at::kDouble));
  const bool is_scale = std::isfinite(values[0]) && values[0] > 0;
  const bool are_counts = std::all_of(values + 1, values + kScalerValues, [](double value) {
    return value >= -1 && value <= static_cast<double>(kMostUpdates) && value == std::floor(value);
  });
  if (!is_scale || !are_counts)
    faults += concat("\n  ", kLossScaler, " is ", at::from_blob(values, {kScalerValues}, at::kDouble));
  return faults;
}

std::vector<ShardedOptimizer::StateKind> ShardedOptimizer::kinds_of(int64_t index) const {
  std::vector<StateKind> kinds;
  if (!flat_.holds_state(flat_.plan().bucket_of(index))) {
    if (flat_.has_master(index)) kinds.push_back({".master", part_on_host(host_->master(), index)});
    kinds.push_back({".exp_avg", part_on_host(host_->exp_avg(), index)});
    kinds.push_back({".exp_avg_sq", part_on_host(host_->exp_avg_sq(), index)});
    return kinds;
  }
  if (flat_.has_master(index)) kinds.push_back({".master", flat_.own_view(flat_.master, index)});
  kinds.push_back({".exp_avg", flat_.own_view(flat_.exp_avg, index)});
  kinds.push_back({".exp_avg_sq", flat_.own_view(flat_.exp_avg_sq, index)});
  return kinds;
}

void ShardedOptimizer::restore(const std::vector<NamedState>& state) {
  restore(stored_in_memory(state));
}

void ShardedOptimizer::restore(std::vector<StoredState> state) {
  at::NoGradGuard no_grad;
  SavedState saved(std::move(state));
  // nothing is changed before all of it has been checked
  for (int64_t index = 0; index < flat_.num_parameters(); ++index)
    for (const StateKind& kind : kinds_of(index))
      saved.expect(flat_[index].name + kind.suffix, flat_[index].parameter.sizes(), at::kFloat);
  saved.expect(kAppliedUpdates, {}, at::kLong);
  if (loss_scaler_) saved.expect(kLossScaler, {kScalerValues}, at::kDouble);
  std::string faults = saved.faults();
  if (faults.empty()) faults = faults_of_values(saved);
  if (!faults.empty()) {
    fail(ErrorKind::kCheckpoint,
         "the saved optimizer state does not fit the parameters that this recipe trains:", faults);
  }
  if (host_) host_->wait_for_all();
  for (int64_t index = 0; index < flat_.num_parameters(); ++index) {
    const std::string& name = flat_[index].name;
    const int64_t first = flat_.plan().own_part(index).begin - flat_.plan().offset(index);
    const std::vector<StateKind> kinds = kinds_of(index);
    for (const StateKind& kind : kinds) saved.copy(name + kind.suffix, first, kind.part);
    if (flat_.has_master(index)) flat_.own_values(index).copy_(kinds.front().part);
    flat_[index].parameter.unsafeGetTensorImpl()->bump_version();
  }
  // fp32 weights are not saved twice: the host takes those that the parameters have
  for (const ShardPlan::Bucket& bucket : flat_.plan().buckets())
    if (!flat_.holds_state(bucket) && !flat_.has_master(bucket.first))
      host_->set_weights(host_range_of(bucket), flat_.own_values(bucket));
  gather_values();
  saved.copy(kAppliedUpdates, 0, num_applied_updates_.view(-1));
  if (loss_scaler_) {
    loss_scaler_->restore(saved_scaler(saved));
    update_loss_scale();
  }
}

}  // namespace dsft::zero
